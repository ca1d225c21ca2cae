"""Per-sample depthwise convolution as one grouped convolution of PyTorch: the batch is folded into the channels.

PyTorch's depthwise kernels read the map once, where K*K shifted views would read it K*K times.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _fold(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (1, B*C, H, W)."""
    b, height, width, channels = x.shape
    return x.permute(0, 3, 1, 2).reshape(1, b * channels, height, width)


def _unfold(x: Tensor, batch: int) -> Tensor:
    """(1, B*C, H, W) -> (B, H, W, C), contiguous."""
    return x.reshape(batch, -1, *x.shape[-2:]).permute(0, 2, 3, 1).contiguous()


def _kernels(weight: Tensor) -> Tensor:
    """(B, C, K, K) -> (B*C, 1, K, K)."""
    return weight.reshape(-1, 1, *weight.shape[-2:])


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolved map (B, H, W, C) in x's dtype."""
    if x.shape[0] == 0:
        return x.new_empty(x.shape)
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    y = F.conv2d(
        _fold(x),
        _kernels(weight),
        bias.reshape(-1),
        padding=weight.shape[-1] // 2,
        groups=weight.shape[0] * weight.shape[1],
    )
    return _unfold(y, x.shape[0])


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, each in the dtype of its tensor."""
    if x.shape[0] == 0:
        return x.new_empty(x.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape)
    radius = weight.shape[-1] // 2
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        _fold(grad),
        _fold(x),
        _kernels(weight.to(x.dtype)),
        bias_sizes=[bias.numel()],
        stride=[1, 1],
        padding=[radius, radius],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=bias.numel(),
        output_mask=[True, True, True],
    )
    return (
        _unfold(grad_x, x.shape[0]),
        grad_weight.reshape(weight.shape).to(weight.dtype).contiguous(),
        grad_bias.reshape(bias.shape).to(bias.dtype).contiguous(),
    )
