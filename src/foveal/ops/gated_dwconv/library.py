"""Gated depthwise convolution from PyTorch's own convolution and GELU, keeping only g and v for the backward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import depthwise_conv


def forward(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C) in g's dtype."""
    gate = F.gelu(depthwise_conv(g, weight.to(g.dtype), bias.to(g.dtype)))
    return gate.mul_(v).contiguous()


def backward(grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of g, v, weight and bias; the convolution is computed again instead of kept."""
    kernel = weight.to(g.dtype)
    y = depthwise_conv(g, kernel, bias.to(g.dtype))
    grad_v = grad * F.gelu(y)
    grad_y = torch.ops.aten.gelu_backward(grad * v, y)
    radius = weight.shape[-1] // 2
    grad_g, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad_y.permute(0, 3, 1, 2),
        g.permute(0, 3, 1, 2),
        kernel,
        bias_sizes=[bias.shape[0]],
        stride=[1, 1],
        padding=[radius, radius],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=weight.shape[0],
        output_mask=[True, True, True],
    )
    grad_g = grad_g.permute(0, 2, 3, 1).contiguous()
    return grad_g, grad_v.contiguous(), grad_weight.to(weight.dtype).contiguous(), grad_bias.to(bias.dtype)
