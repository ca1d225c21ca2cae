"""Gated depthwise convolution as a PyTorch operator."""

from __future__ import annotations

from ..fused import FusedOperator

FUSED = FusedOperator(
    "gated_dwconv",
    tensors=("g", "v", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda g, *_: g.new_empty(g.shape),
)
