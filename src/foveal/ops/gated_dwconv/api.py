"""Gated depthwise convolution: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from torch import Tensor

from ..backend import Implementation, Operator, register
from ..late import triton_implementation
from . import library, native
from .reference import gated_dwconv_reference
from .schema import FUSED


def gated_dwconv(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU(DWConv(g) + bias) * v: the gate of TransNeXt's convolutional GLU (section 3.2 of the paper).

    Args:
        g, v: (B, H, W, C) gate and value, any strides (the two halves of one linear layer's output need no copy).
        weight: (C, 1, K, K), K odd; zero padding K // 2.
        bias: (C,), or None for 0.

    Returns:
        (B, H, W, C) in the dtype of g. GELU is the exact (erf) one. Half types are convolved as
        PyTorch convolves them, summed in float32. All tensors get gradients; a second derivative exists on the backend
        "reference" only.

    Raises:
        ValueError: shapes that do not fit together, or an even kernel.
        BackendError: the backend asked for with `use_backend` cannot take this call.
    """
    call = _normalise(g, v, weight, bias)
    return OPERATOR.choose(*call).run(*call)


def _normalise(g, v, weight, bias=None):
    if g.ndim != 4 or v.shape != g.shape:
        raise ValueError(f"g and v must both be (B, H, W, C), got {tuple(g.shape)} and {tuple(v.shape)}")
    channels, kernel = g.shape[-1], weight.shape[-1]
    if tuple(weight.shape) != (channels, 1, kernel, kernel) or kernel % 2 == 0:
        raise ValueError(f"weight must be ({channels}, 1, K, K) with K odd, got {tuple(weight.shape)}")
    if bias is None:
        bias = weight.new_zeros(channels)
    elif tuple(bias.shape) != (channels,):
        raise ValueError(f"bias must have shape ({channels},), got {tuple(bias.shape)}")
    return g, v, weight, bias


def _kernels():
    from . import triton

    return triton


OPERATOR = register(
    Operator(
        "gated_dwconv",
        _normalise,
        (
            triton_implementation(FUSED, _kernels),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                FUSED.add("cpu", native.forward, native.backward),
                native.unsupported,
            ),
            Implementation(
                "torch",
                "PyTorch's convolution on any device, recomputed in backward",
                FUSED.add("torch", library.forward, library.backward),
                lambda *call: None,
            ),
            Implementation("reference", "plain PyTorch", gated_dwconv_reference, lambda *call: None),
        ),
    )
)
