"""Multi-scale depthwise convolution as a PyTorch operator: the parameters of all groups one behind the other."""

from __future__ import annotations

from ..fused import FusedOperator

FUSED = FusedOperator(
    "multiscale_dwconv",
    tensors=("x", "weight", "bias"),  # weight (sum of C_g * K_g^2,), bias (C,)
    constants=("SymInt[] kernels", "SymInt[] channels", "bool identity", "bool gelu"),
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)
