"""Multi-scale depthwise convolution in plain PyTorch, differentiable as often as wanted.

    y = concat over groups of (DWConv_g(x_g) + bias_g) (+ x),   GELU(y) or y

TransXNet paper, section III-C (multi-scale feed-forward network).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import depthwise_conv
from ..numerics import accumulation_dtype, without_autocast


def split_weight(weight: Tensor, kernels: Sequence[int], channels: Sequence[int]) -> list[Tensor]:
    """(C_g, 1, K_g, K_g) of every group, from all of them one behind the other."""
    parts = weight.split([c * k * k for c, k in zip(channels, kernels, strict=True)])
    return [p.reshape(c, 1, k, k) for p, c, k in zip(parts, channels, kernels, strict=True)]


def convolve(x: Tensor, weight: Tensor, bias: Tensor, kernels: Sequence[int], channels: Sequence[int]) -> Tensor:
    """The convolutions of a (B, H, W, C) map by groups, with biases."""
    channels = list(channels)
    parts = zip(x.split(channels, -1), split_weight(weight, kernels, channels), bias.split(channels), strict=True)
    return torch.cat([depthwise_conv(*part) for part in parts], -1)


def multiscale_dwconv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernels: Sequence[int],
    channels: Sequence[int],
    identity: bool,
    gelu: bool,
) -> Tensor:
    """See `foveal.ops.multiscale_dwconv`; here the parameters of all groups are one behind the other."""
    dtype = accumulation_dtype(x.dtype)
    with without_autocast(x.device):
        wide = x.to(dtype)
        y = convolve(wide, weight.to(dtype), bias.to(dtype), kernels, channels)
        y = y + wide if identity else y
        return (F.gelu(y) if gelu else y).to(x.dtype)
