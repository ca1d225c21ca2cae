"""Multi-scale depthwise convolution as PyTorch operators: the parameters of all groups one behind the other."""

from __future__ import annotations

from ..fused import FusedOperator

_PARAMETERS = ("weight", "bias")  # (sum of C_g * K_g^2,), (C,)
_CONSTANTS = ("SymInt[] kernels", "SymInt[] channels", "bool identity", "bool gelu")

FUSED = FusedOperator(
    "multiscale_dwconv",
    tensors=("x", *_PARAMETERS),
    constants=_CONSTANTS,
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)
ENTERED = FusedOperator(
    "multiscale_dwconv_entered",
    tensors=("x", "scale", "shift", *_PARAMETERS),
    constants=_CONSTANTS,
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)
