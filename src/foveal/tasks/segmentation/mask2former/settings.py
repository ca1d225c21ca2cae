"""The sizes of a Mask2Former, checked, and as transformers wants them."""

from dataclasses import dataclass

from transformers import Mask2FormerConfig

from foveal.errors import FovealError

GROUPS = 32
"""Of the group norms."""
LEVELS = 3
"""Maps that the pixel decoder's tokens come from, and that the decoder looks at in turns."""


@dataclass(frozen=True)
class Settings:
    """See ``build`` for what each is; without dropout, as published."""

    queries: int = 100
    dim: int = 256
    heads: int = 8
    encoder_layers: int = 6
    encoder_mlp_dim: int = 1024
    decoder_layers: int = 9
    mlp_dim: int = 2048
    train_points: int = 12544

    def __post_init__(self) -> None:
        counts = (self.queries, self.heads, self.encoder_layers, self.encoder_mlp_dim, self.mlp_dim, self.train_points)
        if min(counts) < 1:
            raise FovealError("Mask2Former's queries, heads, layers, widths and points must be at least 1.")
        if self.decoder_layers < LEVELS:
            raise FovealError(
                f"Mask2Former's decoder looks at {LEVELS} maps in turns: decoder_layers must be at least {LEVELS}, "
                f"not {self.decoder_layers}."
            )
        # A group of a single channel would be nothing but zero in a map of a single token.
        if self.dim % GROUPS or self.dim <= GROUPS:
            raise FovealError(f"Mask2Former's dim must be 2, 3, ... times {GROUPS}, not {self.dim}.")
        if self.dim % self.heads:
            raise FovealError(f"Mask2Former's {self.heads} heads must divide its dim, {self.dim}.")

    def config(self) -> Mask2FormerConfig:
        """What transformers makes the pixel decoder and the transformer from; of its other fields nothing is used."""
        return Mask2FormerConfig(
            feature_size=self.dim,
            mask_feature_size=self.dim,
            hidden_dim=self.dim,
            num_attention_heads=self.heads,
            num_queries=self.queries,
            encoder_layers=self.encoder_layers,
            encoder_feedforward_dim=self.encoder_mlp_dim,
            decoder_layers=self.decoder_layers + 1,  # transformers counts the prediction before the first layer as one
            dim_feedforward=self.mlp_dim,
            dropout=0.0,
        )
