"""Multi-scale depthwise convolution from PyTorch's own convolutions and GELU, keeping only x for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv_backward
from .reference import convolve, split_weight


def _activated(x: Tensor, weight: Tensor, bias: Tensor, kernels, channels, identity: bool) -> Tensor:
    y = convolve(x, weight, bias, kernels, channels)
    return y.add_(x) if identity else y


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernels: Sequence[int],
    channels: Sequence[int],
    identity: bool,
    gelu: bool,
) -> Tensor:
    """The result (B, H, W, C) in x's dtype."""
    dtype = convolution_dtype(x)
    y = _activated(x.to(dtype), weight.to(dtype), bias.to(dtype), kernels, channels, identity)
    return (F.gelu(y) if gelu else y).to(x.dtype).contiguous()


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernels: Sequence[int],
    channels: Sequence[int],
    identity: bool,
    gelu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; where there is a GELU the convolution is computed again instead of kept."""
    dtype, channels = convolution_dtype(x), list(channels)
    wide, kernel = x.to(dtype), weight.to(dtype)
    grad_y = grad.to(dtype)
    if gelu:
        y = _activated(wide, kernel, bias.to(dtype), kernels, channels, identity)
        grad_y = torch.ops.aten.gelu_backward(grad_y, y)
    parts = zip(
        grad_y.split(channels, -1), wide.split(channels, -1), split_weight(kernel, kernels, channels), strict=True
    )
    maps, weights, biases = zip(*(depthwise_conv_backward(*part) for part in parts), strict=True)
    grad_x = torch.cat(maps, -1)
    grad_x = grad_x.add_(grad_y) if identity else grad_x
    grad_weight = torch.cat([w.flatten() for w in weights])
    return grad_x.to(x.dtype).contiguous(), grad_weight.to(weight.dtype), torch.cat(biases).to(bias.dtype)
