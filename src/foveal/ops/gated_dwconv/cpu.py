"""Gated depthwise convolution by the compiled CPU kernels."""

from __future__ import annotations

from torch import Tensor

from ..native import depthwise
from ..native.depthwise import Depthwise
from ..numerics import in_dtype


def unsupported(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    """Why the compiled kernels cannot serve this call, or None."""
    return depthwise.unsupported([weight.shape[-1]], (weight, bias), g=g, v=v)


def _convolution(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Depthwise:
    return Depthwise(g, weight.flatten(), bias, [weight.shape[-1]], [weight.shape[0]], value=v, gelu=True)


def forward(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C) in g's dtype."""
    return _convolution(g, v, weight, bias).forward()


def backward(grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of g, v, weight and bias; the convolution is recomputed, not saved."""
    grad_g, grad_v, grad_weight, grad_bias = _convolution(g, v, weight, bias).backward(grad)
    grad_weight = in_dtype(grad_weight.reshape(weight.shape), weight.dtype)
    return grad_g, grad_v, grad_weight, in_dtype(grad_bias, bias.dtype)


def packed_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Like ``backward``, with gate and value side by side in x (B, H, W, 2C): their gradients are written as halves of
    x's."""
    grad_x = x.new_empty(x.shape)
    g, v = x.chunk(2, -1)
    call = _convolution(g, v, weight, bias)
    _, _, grad_weight, grad_bias = call.backward(grad, *grad_x.chunk(2, -1))
    return grad_x, in_dtype(grad_weight.reshape(weight.shape), weight.dtype), in_dtype(grad_bias, bias.dtype)
