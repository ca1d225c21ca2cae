"""Per-sample depthwise convolution as one grouped PyTorch convolution: the batch is folded into the channels.

PyTorch's depthwise kernels read the map once; K*K shifted views would read it K*K times.
"""

from __future__ import annotations

from torch import Tensor

from ..convolution import convolution_dtype, depthwise_conv, depthwise_conv_backward


def _fold(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (1, H, W, B*C), a view of (1, B*C, H, W) memory."""
    b, height, width, channels = x.shape
    return x.permute(0, 3, 1, 2).reshape(1, b * channels, height, width).permute(0, 2, 3, 1)


def _unfold(x: Tensor, batch: int) -> Tensor:
    """(1, H, W, B*C) -> (B, H, W, C), contiguous."""
    return x[0].unflatten(-1, (batch, -1)).permute(2, 0, 1, 3).contiguous()


def _kernels(weight: Tensor) -> Tensor:
    """(B, C, K, K) -> (B*C, 1, K, K)."""
    return weight.reshape(-1, 1, *weight.shape[-2:])


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolved map (B, H, W, C) in x's dtype."""
    if x.shape[0] == 0:
        return x.new_empty(x.shape)
    dtype = convolution_dtype(x)
    y = depthwise_conv(_fold(x.to(dtype)), _kernels(weight.to(dtype)), bias.to(dtype).flatten())
    return _unfold(y, x.shape[0]).to(x.dtype)


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, each in the dtype of its tensor."""
    if x.shape[0] == 0:
        return x.new_empty(x.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape)
    dtype = convolution_dtype(x)
    grad_x, grad_weight, grad_bias = depthwise_conv_backward(
        _fold(grad.to(dtype)), _fold(x.to(dtype)), _kernels(weight.to(dtype))
    )
    return (
        _unfold(grad_x, x.shape[0]).to(x.dtype),
        grad_weight.reshape(weight.shape).to(weight.dtype).contiguous(),
        grad_bias.reshape(bias.shape).to(bias.dtype).contiguous(),
    )
