"""Gated depthwise convolution in plain PyTorch, differentiable as often as wanted.

    y = GELU(DWConv(g) + bias) * v            GELU is the exact one, x * Phi(x)

TransNeXt paper, section 3.2 (convolutional GLU).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..numerics import accumulation_dtype, without_autocast


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Depthwise convolution of a (B, H, W, C) map with (C, 1, K, K) weights, zero padding K // 2."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    return y.permute(0, 2, 3, 1)


def gated_dwconv_reference(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `foveal.ops.gated_dwconv`; here every argument is given."""
    dtype = accumulation_dtype(g.dtype)
    with without_autocast(g.device):
        gate = F.gelu(depthwise_conv(g.to(dtype), weight.to(dtype), bias.to(dtype)))
        return (gate * v.to(dtype)).to(g.dtype)
