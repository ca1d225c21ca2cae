"""The sizes of a DINO, checked, and what transformers' layers want to know of them."""

from dataclasses import dataclass

from transformers import DeformableDetrConfig

from foveal.errors import FovealError
from foveal.tasks.detection.dino.neck import GROUPS


@dataclass(frozen=True)
class Settings:
    """See ``build`` for what each is; without dropout, as published."""

    num_levels: int = 4
    queries: int = 900
    denoising_queries: int = 100
    dim: int = 256
    heads: int = 8
    points: int = 4
    mlp_dim: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    max_detections: int = 300

    def __post_init__(self) -> None:
        if self.num_levels not in (4, 5):
            raise FovealError(f"DINO has 4 or 5 levels, not {self.num_levels}.")
        if self.dim % GROUPS or self.dim % self.heads:
            raise FovealError(
                f"DINO's dim must be a multiple of {GROUPS} and of its {self.heads} heads, not {self.dim}."
            )
        lowest = min(self.queries, self.denoising_queries, self.points, self.mlp_dim, self.max_detections)
        if min(lowest, self.encoder_layers, self.decoder_layers) < 1:
            raise FovealError("DINO's queries, points, widths, layers and detections must be at least 1.")

    @property
    def stages(self) -> tuple[int, ...]:
        """The backbone's stages, from 0, whose maps are taken; one level more is made from the last."""
        return (1, 2, 3) if self.num_levels == 4 else (0, 1, 2, 3)

    def layers(self) -> DeformableDetrConfig:
        """The configuration from which transformers makes single layers; of its other fields nothing is used."""
        return DeformableDetrConfig(
            d_model=self.dim,
            num_feature_levels=self.num_levels,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_n_points=self.points,
            decoder_n_points=self.points,
            encoder_ffn_dim=self.mlp_dim,
            decoder_ffn_dim=self.mlp_dim,
            dropout=0.0,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
