"""Per-sample depthwise convolution by the compiled CPU kernels."""

from __future__ import annotations

from torch import Tensor

from ..native import depthwise
from ..native.depthwise import Depthwise
from ..numerics import in_dtype


def unsupported(x: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    """Why the compiled kernels cannot serve this call, or None."""
    return depthwise.unsupported([weight.shape[-1]], (weight, bias), x=x)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Depthwise:
    return Depthwise(x, weight.flatten(1), bias, [weight.shape[-1]], [weight.shape[1]], own_weights=True)


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolved map (B, H, W, C) in x's dtype."""
    return _convolution(x, weight, bias).forward()


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, each in the dtype of its tensor."""
    grad_x, _, grad_weight, grad_bias = _convolution(x, weight, bias).backward(grad)
    return grad_x, in_dtype(grad_weight.reshape(weight.shape), weight.dtype), in_dtype(grad_bias, bias.dtype)
