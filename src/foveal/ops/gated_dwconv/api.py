"""Gated depthwise convolution: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from torch import Tensor

from ..backend import Implementation, Operator, register
from ..convolution import square_kernels
from ..late import triton_implementation
from . import library, native
from .reference import gated_dwconv_reference
from .schema import FUSED, PACKED, packed_backward, packed_forward


def gated_dwconv(g: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU(DWConv(g) + bias) * v: the gate of TransNeXt's convolutional GLU (section 3.2 of the paper).

    Args:
        g, v: (B, H, W, C) gate and value, any strides. With v = None, g is (B, H, W, 2C), the gate in its first half
            and the value in its second, as one linear layer returns them: then their gradients need no joining.
        weight: (C, 1, K, K), K odd; zero padding K // 2.
        bias: (C,), or None for 0.

    Returns:
        (B, H, W, C) in the dtype of g. GELU is the exact (erf) one. Half types are convolved as PyTorch convolves them,
        summed in float32. All tensors get gradients; a second derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even kernel, or tensors that are not floating-point or of
            several devices.
        BackendError: the backend asked for with `use_backend` cannot take this call.
    """
    call = _normalise(g, v, weight, bias)
    return OPERATOR.choose(*call).run(*call)


def _normalise(g, v, weight, bias=None):
    if v is None and (g.ndim != 4 or g.shape[-1] % 2):
        raise ValueError(f"without v, g must be (B, H, W, 2C), gate and value side by side, got {tuple(g.shape)}")
    if v is not None and (g.ndim != 4 or v.shape != g.shape):
        raise ValueError(f"g and v must both be (B, H, W, C), got {tuple(g.shape)} and {tuple(v.shape)}")
    channels = g.shape[-1] // (2 if v is None else 1)
    if not square_kernels(weight, channels, 1):
        raise ValueError(f"weight must be ({channels}, 1, K, K) with K odd, got {tuple(weight.shape)}")
    if bias is None:
        bias = weight.new_zeros(channels)
    elif tuple(bias.shape) != (channels,):
        raise ValueError(f"bias must have shape ({channels},), got {tuple(bias.shape)}")
    return g, v, weight, bias


def _apart(function: Callable) -> Callable:
    """A function of (g, v, weight, bias) as one that also takes them side by side."""
    return lambda g, v, *rest: function(*(g.chunk(2, -1) if v is None else (g, v)), *rest)


def _either(apart: Callable, packed: Callable) -> Callable:
    return lambda g, v, *rest: packed(g, *rest) if v is None else apart(g, v, *rest)


def _kernels():
    from . import triton

    return triton


def _packed_kernels():
    module = _kernels()
    return SimpleNamespace(forward=packed_forward(module.forward), backward=packed_backward(module.backward))


def _triton() -> Implementation:
    apart, packed = triton_implementation(FUSED, _kernels), triton_implementation(PACKED, _packed_kernels)
    return Implementation(apart.name, apart.summary, _either(apart.run, packed.run), _apart(apart.unsupported))


OPERATOR = register(
    Operator(
        "gated_dwconv",
        _normalise,
        (
            _triton(),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                _either(
                    FUSED.add("cpu", native.forward, native.backward),
                    PACKED.add("cpu", packed_forward(native.forward), native.packed_backward),
                ),
                _apart(native.unsupported),
            ),
            Implementation(
                "torch",
                "PyTorch's convolution on any device, recomputed in backward",
                _either(
                    FUSED.add("torch", library.forward, library.backward),
                    PACKED.add("torch", packed_forward(library.forward), packed_backward(library.backward)),
                ),
                lambda *call: None,
            ),
            Implementation("reference", "plain PyTorch", _apart(gated_dwconv_reference), lambda *call: None),
        ),
    )
)
