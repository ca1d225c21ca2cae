"""Gated depthwise convolution from PyTorch's own convolution and GELU, keeping only g and v for the backward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv, depthwise_conv_backward


def forward(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C) in g's dtype."""
    dtype = convolution_dtype(g)
    gate = F.gelu(depthwise_conv(g.to(dtype), weight.to(dtype), bias.to(dtype)))
    return gate.mul_(v).to(g.dtype).contiguous()


def backward(grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of g, v, weight and bias; the convolution is computed again instead of kept."""
    dtype = convolution_dtype(g)
    wide, grad, kernel = g.to(dtype), grad.to(dtype), weight.to(dtype)
    y = depthwise_conv(wide, kernel, bias.to(dtype))
    grad_v = grad * F.gelu(y)
    grad_y = torch.ops.aten.gelu_backward(grad * v.to(dtype), y)
    gradients = depthwise_conv_backward(grad_y, wide, kernel)
    grad_g, grad_weight, grad_bias = (t.to(p.dtype).contiguous() for t, p in zip(gradients, (g, weight, bias)))
    return grad_g, grad_v.to(v.dtype).contiguous(), grad_weight, grad_bias
