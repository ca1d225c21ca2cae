"""Gated depthwise convolution: specification, checks, and the choice of an implementation.

It is registered as two PyTorch operators: one takes a gate and a value, the other both side by side, as one linear
layer usually returns them. For two slices of its output autograd would have to join two gradients, a pass over the
largest map of the network; the second operator returns them joined.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from ..backend import Implementation, Operator, register
from ..convolution import square_kernels
from ..fused import FusedOperator, lazy_triton
from ..standard import standard
from . import cpu, torch_ops
from .reference import gated_dwconv_reference
from .standard_form import gated_dwconv_standard


def gated_dwconv(g: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU(DWConv(g) + bias) * v: the gate of TransNeXt's convolutional GLU (section 3.2 of the paper).

    Args:
        g, v: (B, H, W, C) gate and value, any strides. With v = None, g is (B, H, W, 2C), the gate in its first half
            and the value in its second, as one linear layer returns them, which saves joining their gradients.
        weight: (C, 1, K, K), K odd; zero padding K // 2.
        bias: (C,), or None for 0.

    Returns:
        (B, H, W, C) in the dtype of g. GELU is the exact (erf) one. Half types are convolved as PyTorch convolves them,
        summed in float32. All tensors get gradients; a second derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even kernel, or tensors that are not floating-point or not all
            on one device.
        BackendError: the backend selected with ``use_backend`` cannot take this call.
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


FUSED = FusedOperator(
    "gated_dwconv",
    tensors=("g", "v", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda g, *_: g.new_empty(g.shape),
)
PACKED = FusedOperator(
    "gated_dwconv_packed",
    tensors=("x", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda x, *_: x.new_empty((*x.shape[:-1], x.shape[-1] // 2)),
)


def _packed_forward(forward: Callable) -> Callable:
    """Turn ``forward(g, v, weight, bias)`` into a function of (x, weight, bias)."""
    return lambda x, weight, bias: forward(*x.chunk(2, -1), weight, bias)


def _packed_backward(backward: Callable) -> Callable:
    """Turn ``backward(grad, g, v, weight, bias)`` into a function of (grad, x, weight, bias)."""

    def run(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        grad_g, grad_v, *others = backward(grad, *x.chunk(2, -1), weight, bias)
        return (torch.cat([grad_g, grad_v], -1), *others)

    return run


def _apart(function: Callable) -> Callable:
    """Make a function of (g, v, weight, bias) accept v = None, with gate and value side by side in g."""
    return lambda g, v, *rest: function(*(g.chunk(2, -1) if v is None else (g, v)), *rest)


def _either(apart: Callable, packed: Callable) -> Callable:
    return lambda g, v, *rest: packed(g, *rest) if v is None else apart(g, v, *rest)


def _kernels():
    from . import triton_kernels

    return triton_kernels


def _packed_kernels():
    module = _kernels()
    return SimpleNamespace(forward=_packed_forward(module.forward), backward=_packed_backward(module.backward))


def _triton() -> Implementation:
    apart, packed = lazy_triton(FUSED, _kernels), lazy_triton(PACKED, _packed_kernels)
    return Implementation(apart.name, apart.summary, _either(apart.run, packed.run), _apart(apart.unsupported))


OPERATOR = register(
    Operator(
        "gated_dwconv",
        _normalise,
        (
            standard(_apart(gated_dwconv_standard)),
            _triton(),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                _either(
                    FUSED.add("cpu", cpu.forward, cpu.backward),
                    PACKED.add("cpu", _packed_forward(cpu.forward), cpu.packed_backward),
                ),
                _apart(cpu.unsupported),
            ),
            Implementation(
                "torch",
                "PyTorch's convolution, recomputed in backward, any device",
                _either(
                    FUSED.add("torch", torch_ops.forward, torch_ops.backward),
                    PACKED.add("torch", _packed_forward(torch_ops.forward), _packed_backward(torch_ops.backward)),
                ),
                lambda *call: None,
            ),
            Implementation("reference", "plain PyTorch", _apart(gated_dwconv_reference), lambda *call: None),
        ),
    )
)
