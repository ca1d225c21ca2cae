"""Multi-scale depthwise convolution from PyTorch's own convolutions and GELU, saving only x for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv_backward
from ..numerics import accumulation_dtype
from .reference import convolve, split_weight


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, kernels, channels, identity: bool) -> Tensor:
    """Return the convolution with bias (+ x) in x's dtype."""
    y = convolve(x, weight, bias.to(x.dtype), kernels, channels)
    return y.add_(x) if identity else y


def _convolve_for_gradient(x: Tensor, weight: Tensor, bias: Tensor, kernels, channels, identity: bool) -> Tensor:
    """Return the input of GELU. Half types are rounded once, after the convolution, and float32 from there on: rounding
    it again would cost the bias gradient its digits."""
    wide = accumulation_dtype(x.dtype)
    if x.dtype == wide:
        return _convolve(x, weight, bias, kernels, channels, identity)
    y = convolve(x, weight, None, kernels, channels) + bias.to(wide)
    return y + x if identity else y


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
    y = _convolve(x.to(dtype), weight.to(dtype), bias, kernels, channels, identity)
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
    x_in, kernel, grad_y = x.to(dtype), weight.to(dtype), grad.to(dtype)
    if gelu:
        y = _convolve_for_gradient(x_in, kernel, bias, kernels, channels, identity)
        grad_y = torch.ops.aten.gelu_backward(grad_y.to(y.dtype), y)
    parts = zip(
        grad_y.split(channels, -1), x_in.split(channels, -1), split_weight(kernel, kernels, channels), strict=True
    )
    maps, weights, biases = zip(*(depthwise_conv_backward(*part) for part in parts), strict=True)
    grad_x = torch.cat(maps, -1)
    grad_x = grad_x.add_(grad_y) if identity else grad_x
    grad_weight = torch.cat([w.flatten() for w in weights])
    return grad_x.to(x.dtype).contiguous(), grad_weight.to(weight.dtype), torch.cat(biases).to(bias.dtype)
