"""The encoder: every token looks at a few places of every level (Deformable DETR, section 4.1)."""

from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrEncoderLayer

from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.attention import initialise, layer_config, sample_by_level
from foveal.tasks.detection.dino.levels import Levels


class Encoder(nn.Module):
    """transformers' layers, one after the other, with DINO's initialisation."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        config = layer_config(settings)
        self.layers = nn.ModuleList(
            sample_by_level(DeformableDetrEncoderLayer(config)) for _ in range(settings.encoder_layers)
        )
        initialise(self)

    def forward(self, levels: Levels) -> Tensor:
        """The memory (B, N, dim)."""
        memory, attended = levels.tokens, levels.attended()
        # A token's own place, as a fraction of each padded level.
        places = levels.centres[:, :, None] * levels.ratios[:, None]
        for layer in self.layers:
            memory = layer(
                memory,
                levels.inside,
                spatial_position_embeddings=levels.positions,
                reference_points=places,
                **attended,
            )
        return memory


def recompute(layers: nn.ModuleList, enable: bool) -> None:
    """Whether transformers' layers recompute their activations in the backward pass instead of keeping them."""
    for layer in layers:
        layer.gradient_checkpointing = enable  # type: ignore[assignment]
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]
