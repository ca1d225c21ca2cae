"""The transformer: an encoder of all levels' tokens, and a decoder that refines the boxes of its queries.

The layers are transformers' Deformable DETR's; sampling, initialisation and the loop over layers are here.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrEncoderLayer,
    DeformableDetrMLPPredictionHead,
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrSelfAttention,
    inverse_sigmoid,
)

from foveal.tasks.dense.detr import init_deformable_attention, sample_levels, sine_embedding
from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.levels import Levels
from foveal.types import Size

# Boxes are kept this far from 0 and 1 before they are refined, as published.
REFINED_EPS = 1e-3
BOX_TEMPERATURE = 10000


class Encoder(nn.Module):
    """Encoder: every token attends to a few locations of every level (Deformable DETR, section 4.1)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        config = layer_config(settings)
        self.layers = nn.ModuleList(
            sample_by_level(DeformableDetrEncoderLayer(config)) for _ in range(settings.encoder_layers)
        )
        init_weights(self)

    def forward(self, levels: Levels) -> Tensor:
        """Return the memory (B, N, dim)."""
        memory, shapes = levels.tokens, levels.attention_shapes()
        # A token's own location, as a fraction of each padded level.
        points = levels.centres[:, :, None] * levels.ratios[:, None]
        for layer in self.layers:
            memory = layer(
                memory,
                levels.inside,
                spatial_position_embeddings=levels.positions,
                reference_points=points,
                **shapes,
            )
        return memory


class Decoder(nn.Module):
    """Decoder: queries refine their boxes layer by layer and look forward twice (DINO, section 3.5).

    Each layer's positional queries are computed anew from the boxes that it starts from.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        config, dim = layer_config(settings), settings.dim
        self.dim = dim
        self.layers = nn.ModuleList(
            sample_by_level(DeformableDetrDecoderLayer(config)) for _ in range(settings.decoder_layers)
        )
        self.place = DeformableDetrMLPPredictionHead(2 * dim, dim, dim, num_layers=2)
        self.norm = nn.LayerNorm(dim)
        init_weights(self)

    def forward(
        self,
        content: Tensor,
        boxes: Tensor,
        memory: Tensor,
        levels: Levels,
        box_heads: nn.ModuleList,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the queries after each layer, and the boxes that each layer's prediction starts from.

        A layer reads boxes without their gradient. The boxes that it refines keep their gradient in the next layer's
        prediction, whose loss therefore also reaches this layer's box head: that is looking forward twice.

        Args:
            content: queries (B, Q, dim).
            boxes: their boxes (B, Q, 4) as (cx, cy, w, h) relative to the image.
            memory: (B, N, dim) of the encoder.
            levels: where the memory's tokens lie.
            box_heads: one box head per layer.
            mask: (Q, Q) bool, which queries (columns) each query attends to; None for all.

        Returns:
            Queries (layers, B, Q, dim), normalised; boxes (layers, B, Q, 4), the first ones as given.
        """
        shapes, mask = levels.attention_shapes(), None if mask is None else mask[None, None]
        ratios = levels.ratios.repeat(1, 1, 2)[:, None]
        queries, starts = [], [boxes]
        for layer, head in zip(self.layers, box_heads):
            points = starts[-1].detach()[:, :, None] * ratios
            content = layer(
                content,
                self.place(embed_boxes(points[:, :, 0], self.dim)),
                points,
                encoder_hidden_states=memory,
                encoder_attention_mask=levels.inside,
                attention_mask=mask,
                **shapes,
            )
            queries.append(self.norm(content))
            if len(starts) < len(self.layers):
                starts.append(refine(head(content), starts[-1].detach(), REFINED_EPS))
        return torch.stack(queries), torch.stack(starts)


def refine(delta: Tensor, boxes: Tensor, eps: float = 1e-5) -> Tensor:
    """Return boxes (..., 4) moved by ``delta`` in logit space, after clamping them to ``[eps, 1 - eps]``."""
    return (delta + inverse_sigmoid(boxes, eps)).sigmoid()


def embed_boxes(boxes: Tensor, dim: int) -> Tensor:
    """Return the sine embedding (..., 2 dim) of boxes (..., 4), (cx, cy, w, h) relative to the image.

    The order is y, x, w, h: DINO (section 3.2) follows DAB-DETR, whose implementation puts y first, and released
    weights depend on it.
    """
    return sine_embedding(boxes[..., [1, 0, 2, 3]], dim // 2, BOX_TEMPERATURE).flatten(-2)


class Sampling(nn.Module):
    """``sample_levels`` with the signature of transformers' sampling module, some of whose arguments are unused."""

    def forward(
        self,
        value: Tensor,
        spatial_shapes: Tensor,
        spatial_shapes_list: list[Size],
        level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """Return (B, Q, heads * width); see ``sample_levels``."""
        return sample_levels(value, spatial_shapes_list, sampling_locations, attention_weights)


def sample_by_level(layer: nn.Module) -> nn.Module:
    """Return a layer of transformers' Deformable DETR with the sampling of its attention replaced by ``Sampling``."""
    for module in layer.modules():
        if isinstance(module, DeformableDetrMultiscaleDeformableAttention):
            module.attn = Sampling()  # type: ignore[assignment]
    return layer


def layer_config(settings: Settings) -> DeformableDetrConfig:
    """Return the configuration of transformers' encoder and decoder layers; its other fields are not used."""
    return DeformableDetrConfig(
        d_model=settings.dim,
        num_feature_levels=settings.num_levels,
        encoder_attention_heads=settings.heads,
        decoder_attention_heads=settings.heads,
        encoder_n_points=settings.points,
        decoder_n_points=settings.points,
        encoder_ffn_dim=settings.mlp_dim,
        decoder_ffn_dim=settings.mlp_dim,
        dropout=0.0,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def init_weights(layers: nn.Module) -> None:
    """Initialise an encoder or decoder as published: Glorot uniform matrices, sampling points in all directions.

    nn.MultiheadAttention, which DINO was trained with, initialises query, key and value projections as one matrix of
    three times the height, and their biases with zero.
    """
    for parameter in layers.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    for module in layers.modules():
        if isinstance(module, DeformableDetrSelfAttention):
            for linear in (module.q_proj, module.k_proj, module.v_proj):
                nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))
            for linear in (module.q_proj, module.k_proj, module.v_proj, module.o_proj):
                nn.init.zeros_(linear.bias)
        elif isinstance(module, DeformableDetrMultiscaleDeformableAttention):
            init_deformable_attention(module)


def set_checkpointing(layers: nn.ModuleList, enable: bool) -> None:
    """Set whether transformers' layers recompute their activations in the backward pass."""
    for layer in layers:
        layer.gradient_checkpointing = enable  # type: ignore[assignment]
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]
