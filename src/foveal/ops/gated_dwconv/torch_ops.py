"""Gated depthwise convolution from PyTorch's own convolution and GELU, saving only g and v for the backward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv, depthwise_conv_backward
from ..numerics import accumulation_dtype


def _convolve(g: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """DWConv(g) + bias in the accumulation dtype. Half types are rounded once, after the convolution: rounding what
    GELU takes would cost the bias gradient its digits."""
    wide = accumulation_dtype(g.dtype)
    if g.dtype == wide:
        return depthwise_conv(g, weight, bias.to(wide))
    return depthwise_conv(g, weight, None) + bias.to(wide)


def forward(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C) in g's dtype."""
    dtype = convolution_dtype(g)
    gate = F.gelu(_convolve(g.to(dtype), weight.to(dtype), bias))
    return gate.mul_(v).to(g.dtype).contiguous()


def backward(grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of g, v, weight and bias; the convolution is recomputed, not saved."""
    dtype = convolution_dtype(g)
    x, kernel = g.to(dtype), weight.to(dtype)
    y = _convolve(x, kernel, bias)
    grad = grad.to(y.dtype)
    grad_v = grad * F.gelu(y)
    grad_y = torch.ops.aten.gelu_backward(grad * v, y)
    gradients = depthwise_conv_backward(grad_y, x, kernel)
    grad_g, grad_weight, grad_bias = (t.to(p.dtype).contiguous() for t, p in zip(gradients, (g, weight, bias)))
    return grad_g, grad_v.to(v.dtype).contiguous(), grad_weight, grad_bias
