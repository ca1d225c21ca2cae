"""GELU and pooling as a PyTorch operator."""

from __future__ import annotations

from ..fused import FusedOperator

FUSED = FusedOperator(
    "gelu_pool",
    tensors=("x",),
    constants=("SymInt height", "SymInt width"),
    outputs=1,
    fake=lambda x, height, width: x.new_empty((x.shape[0], height, width, x.shape[3])),
)
