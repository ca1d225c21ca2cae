"""The attention of a TransNeXt stage: its kind by a letter, and the terms that the paper's ablations change."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_args

from torch import nn

from foveal.near import did_you_mean

from ..sizes import StageGeometry
from .aggregated_attention import AggregatedAttention, Pooling, SelfAttention
from .other_position_biases import OtherBiasAttention, PooledBias, WindowBias
from .spatial_reduction import SpatialReductionAttention

KINDS = "AMS"  # aggregated attention, multi-head self-attention, spatial-reduction attention
_CHOICES = {"pooling": Pooling, "window_bias": WindowBias, "pooled_bias": PooledBias}


@dataclass(frozen=True)
class AttentionTerms:
    """The terms of attention, by default those of TransNeXt. All but the query embedding are of aggregated attention.

    Attributes:
        query_embedding, positional_attention, pooling: see ``AggregatedAttention``.
        window_bias, pooled_bias: see ``OtherBiasAttention``.
    """

    query_embedding: bool = True
    positional_attention: bool = True
    pooling: Pooling = "activate"
    window_bias: WindowBias = "learned"
    pooled_bias: PooledBias = "log_cpb"

    def check(self, kinds: str) -> None:
        """Raise ValueError for terms that do not work together, or that stages of these kinds do not have."""
        for name, choices in _CHOICES.items():
            given, known = getattr(self, name), get_args(choices)
            if given not in known:
                near = did_you_mean(str(given), known, most=1)
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}{near}")
        if self.window_bias == "positional" and not self.positional_attention:
            raise ValueError('window_bias="positional" is positional attention: leave positional_attention=False out')
        for field in fields(self):
            owners = "AM" if field.name == "query_embedding" else "A"
            if getattr(self, field.name) != field.default and not set(owners) & set(kinds):
                whose = "cosine attention" if owners == "AM" else "aggregated attention"
                raise ValueError(f"{field.name} belongs to {whose}, and token_mixers={kinds!r} has none: leave it out")

    def create(
        self, kind: str, dim: int, heads: int, window: int, geometry: StageGeometry, **settings: Any
    ) -> nn.Module:
        """Return the attention of a stage.

        Args:
            kind: a letter of ``KINDS``.
            dim: channels.
            heads: number of heads.
            window: side of the window in tokens.
            geometry: of the stage.
            settings: dropout, device and dtype.
        """
        if kind == "S":
            return SpatialReductionAttention(dim, heads, geometry, **settings)
        settings["query_embedding"] = self.query_embedding
        if kind == "M":
            return SelfAttention(dim, heads, geometry, **settings)
        settings |= dict(positional_attention=self.positional_attention, pooling=self.pooling)
        if (self.window_bias, self.pooled_bias) == ("learned", "log_cpb"):
            return AggregatedAttention(dim, heads, window, geometry, **settings)
        biases: dict[str, Any] = dict(window_bias=self.window_bias, pooled_bias=self.pooled_bias)
        return OtherBiasAttention(dim, heads, window, geometry, **biases, **settings)
