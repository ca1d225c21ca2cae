"""The decoder: queries refine their boxes layer by layer, and look forward twice (DINO, section 3.5)."""

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrMLPPredictionHead,
    inverse_sigmoid,
)

from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.attention import initialise, layer_config, sample_by_level
from foveal.tasks.detection.dino.levels import Levels
from foveal.tasks.detection.dino.positions import embed_boxes

# Boxes are kept this far from 0 and 1 before they are refined, as published.
REFINED_EPS = 1e-3


class Decoder(nn.Module):
    """transformers' layers, with queries' places computed anew from their boxes before each."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        config, dim = layer_config(settings), settings.dim
        self.dim = dim
        self.layers = nn.ModuleList(
            sample_by_level(DeformableDetrDecoderLayer(config)) for _ in range(settings.decoder_layers)
        )
        self.place = DeformableDetrMLPPredictionHead(2 * dim, dim, dim, num_layers=2)
        self.norm = nn.LayerNorm(dim)
        initialise(self)

    def forward(
        self, content: Tensor, boxes: Tensor, memory: Tensor, levels: Levels, heads: nn.ModuleList, seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """All layers' queries, and the boxes that each layer's prediction starts from.

        A layer reads boxes without their gradient. What it makes of them goes with its gradient to the next layer's
        prediction, whose loss therefore reaches this layer's box head too: that is looking forward twice.

        Args:
            content: queries (B, Q, dim).
            boxes: (B, Q, 4), their boxes as (cx, cy, w, h) relative to the image.
            memory: (B, N, dim) of the encoder.
            levels: where it came from.
            heads: a box head for each layer.
            seen: (Q, Q) bool, which queries (columns) each query sees; None for all.

        Returns:
            Queries (layers, B, Q, dim), normalised; boxes (layers, B, Q, 4), the first one as given.
        """
        attended, mask = levels.attended(), None if seen is None else seen[None, None]
        ratios = levels.ratios.repeat(1, 1, 2)[:, None]
        queries, starts = [], [boxes]
        for layer, head in zip(self.layers, heads):
            places = starts[-1].detach()[:, :, None] * ratios
            content = layer(
                content,
                self.place(embed_boxes(places[:, :, 0], self.dim)),
                places,
                encoder_hidden_states=memory,
                encoder_attention_mask=levels.inside,
                attention_mask=mask,
                **attended,
            )
            queries.append(self.norm(content))
            if len(starts) < len(self.layers):
                starts.append(refine(head(content), starts[-1].detach(), REFINED_EPS))
        return torch.stack(queries), torch.stack(starts)


def refine(delta: Tensor, boxes: Tensor, eps: float = 1e-5) -> Tensor:
    """Boxes (..., 4) moved by ``delta``, in the space before the sigmoid; kept ``eps`` from 0 and 1 before it."""
    return (delta + inverse_sigmoid(boxes, eps)).sigmoid()
