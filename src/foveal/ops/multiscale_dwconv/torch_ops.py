"""Multi-scale depthwise convolution from PyTorch's own convolutions and GELU, saving only x for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv, depthwise_conv_backward
from ..numerics import accumulation_dtype
from .reference import convolve, split_weight


def _gelu_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, identity: bool) -> Tensor:
    """Gradient of the input of GELU in one group, in float32 for half types, as is the recomputed input: a sum over the
    map follows, the bias gradient, and rounding before it would cost it digits."""
    wide = accumulation_dtype(x.dtype)
    y = depthwise_conv(x.to(wide), weight.to(wide), bias.to(wide))
    return torch.ops.aten.gelu_backward(grad.to(wide), y.add_(x) if identity else y)


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
    x_in = x.to(dtype)
    y = convolve(x_in, weight.to(dtype), bias.to(dtype), kernels, channels)
    y = y.add_(x_in) if identity else y
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
    """Gradients of x, weight and bias; with GELU the convolution is recomputed, not saved."""
    dtype, channels = convolution_dtype(x), list(channels)
    weights = split_weight(weight.to(dtype), kernels, channels)
    groups = zip(grad.split(channels, -1), x.to(dtype).split(channels, -1), weights, bias.split(channels), strict=True)
    gradients = []
    for grad_y, x_in, kernel, shift in groups:
        grad_y = _gelu_backward(grad_y, x_in, kernel, shift, identity) if gelu else grad_y.to(dtype)
        grad_x, *parameters = depthwise_conv_backward(grad_y, x_in, kernel)
        gradients.append((grad_x.add_(grad_y) if identity else grad_x, *parameters))
    maps, grad_weights, biases = zip(*gradients, strict=True)
    grad_weight = torch.cat([w.flatten() for w in grad_weights])
    return torch.cat(maps, -1).to(x.dtype).contiguous(), grad_weight.to(weight.dtype), torch.cat(biases).to(bias.dtype)
