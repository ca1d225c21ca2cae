"""Per-sample depthwise convolution: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from torch import Tensor

from ..backend import Implementation, Operator, register
from ..convolution import square_kernels
from ..fused import FusedOperator, lazy_triton
from ..standard import standard
from . import cpu, torch_ops
from .reference import dynamic_dwconv_reference
from .standard_form import dynamic_dwconv_standard


def dynamic_dwconv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution with one kernel per sample and channel: TransXNet's IDConv (equation 3 of the paper).

        y[b, i, c] = bias[b, c] + sum_j weight[b, c, j] * x[b, i + j, c]

    Args:
        x: (B, H, W, C), any strides.
        weight: (B, C, K, K), K odd; zero padding K // 2.
        bias: (B, C), or None for 0.

    Returns:
        (B, H, W, C) in the dtype of x. Half types are convolved as PyTorch convolves them, summed in float32. All
        tensors get gradients; a second derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even kernel, or tensors that are not floating-point or not all
            on one device.
        BackendError: the backend selected with ``use_backend`` cannot take this call.
    """
    call = _normalise(x, weight, bias)
    return OPERATOR.choose(*call).run(*call)


def _normalise(x, weight, bias=None):
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    b, channels = x.shape[0], x.shape[-1]
    if not square_kernels(weight, b, channels):
        raise ValueError(f"weight must be ({b}, {channels}, K, K) with K odd, got {tuple(weight.shape)}")
    if bias is None:
        bias = weight.new_zeros(b, channels)
    elif tuple(bias.shape) != (b, channels):
        raise ValueError(f"bias must have shape ({b}, {channels}), got {tuple(bias.shape)}")
    return x, weight, bias


def _kernels():
    from . import triton_kernels

    return triton_kernels


FUSED = FusedOperator(
    "dynamic_dwconv",
    tensors=("x", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)
OPERATOR = register(
    Operator(
        "dynamic_dwconv",
        _normalise,
        (
            standard(dynamic_dwconv_standard),
            lazy_triton(FUSED, _kernels),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                FUSED.add("cpu", cpu.forward, cpu.backward),
                cpu.unsupported,
            ),
            Implementation(
                "torch",
                "one grouped PyTorch convolution, any device",
                FUSED.add("torch", torch_ops.forward, torch_ops.backward),
                lambda *call: None,
            ),
            Implementation("reference", "unfold, plain PyTorch", dynamic_dwconv_reference, lambda *call: None),
        ),
    )
)
