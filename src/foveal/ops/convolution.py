"""Depthwise convolution of channels-last maps by PyTorch, for the implementations that build on it."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import accumulation_dtype


def square_kernels(weight: Tensor, *leading: int) -> bool:
    """Whether weights are (*leading, K, K) with K odd."""
    return (
        weight.ndim == len(leading) + 2
        and tuple(weight.shape) == (*leading, weight.shape[-1], weight.shape[-1])
        and weight.shape[-1] % 2 == 1
    )


def convolution_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which PyTorch's convolutions are as accurate as x's dtype allows.

    On a CPU that is float32 for float16, and for bfloat16 if oneDNN does not support it on this processor: PyTorch's
    own convolutions sum gradients in half precision. Otherwise it is x's own dtype.
    """
    if x.device.type == "cpu" and (x.dtype == torch.float16 or (x.dtype == torch.bfloat16 and not _onednn_has_bf16())):
        return torch.float32
    return x.dtype


@cache
def _onednn_has_bf16() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise convolution of a (B, H, W, C) map with (C, 1, K, K) weights and zero padding K // 2."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    return y.permute(0, 2, 3, 1)


def depthwise_conv_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (B, H, W, C), weight (C, 1, K, K) and bias (C,) of a depthwise convolution with padding K // 2.

    For half types ``grad`` may be float32: it is rounded for the convolution alone, and the bias gradient is the
    float32 sum of the numbers as they are given.
    """
    radius = weight.shape[-1] // 2
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(x.dtype).permute(0, 3, 1, 2),
        x.permute(0, 3, 1, 2),
        weight,
        bias_sizes=None,
        stride=[1, 1],
        padding=[radius, radius],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=weight.shape[0],
        output_mask=[True, True, False],
    )
    return grad_x.permute(0, 2, 3, 1), grad_weight, grad.sum((0, 1, 2), dtype=accumulation_dtype(grad.dtype))
