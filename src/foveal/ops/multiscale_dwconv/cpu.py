"""Multi-scale depthwise convolution by the compiled CPU kernels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..native import depthwise
from ..native.depthwise import Depthwise
from ..numerics import in_dtype


def unsupported(x: Tensor, weight: Tensor, bias: Tensor, kernels: Sequence[int], *_) -> str | None:
    """Why the compiled kernels cannot serve this call, or None."""
    return depthwise.unsupported(kernels, (weight, bias), x=x)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernels: Sequence[int],
    channels: Sequence[int],
    identity: bool,
    gelu: bool,
) -> Depthwise:
    return Depthwise(x, weight, bias, kernels, channels, identity=identity, gelu=gelu)


def forward(x: Tensor, *rest) -> Tensor:
    """The result (B, H, W, C) in x's dtype."""
    return _convolution(x, *rest).forward()


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *constants) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; with GELU the convolution is recomputed, not saved."""
    grad_x, _, grad_weight, grad_bias = _convolution(x, weight, bias, *constants).backward(grad)
    return grad_x, in_dtype(grad_weight, weight.dtype), in_dtype(grad_bias, bias.dtype)


def entered_forward(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, *constants) -> Tensor:
    """The result for GELU(x) * scale + shift in place of x, without writing that map."""
    kernels, channels, identity, gelu = constants
    convolution = Depthwise(x, weight, bias, kernels, channels, identity=identity, gelu=gelu, entry=(scale, shift))
    return convolution.forward()
