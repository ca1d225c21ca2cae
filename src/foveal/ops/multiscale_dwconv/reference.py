"""Multi-scale depthwise convolution in plain PyTorch, differentiable any number of times.

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
    """Split concatenated weights into (C_g, 1, K_g, K_g) per group."""
    parts = weight.split([c * k * k for c, k in zip(channels, kernels, strict=True)])
    return [p.reshape(c, 1, k, k) for p, c, k in zip(parts, channels, kernels, strict=True)]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, kernels: Sequence[int], channels: Sequence[int]) -> Tensor:
    """Convolve a (B, H, W, C) map group by group and add the bias (C,), if there is one."""
    channels = list(channels)
    biases = [None] * len(channels) if bias is None else bias.split(channels)
    parts = zip(x.split(channels, -1), split_weight(weight, kernels, channels), biases, strict=True)
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
    """See ``foveal.ops.multiscale_dwconv``; here the parameters of all groups are concatenated."""
    dtype = accumulation_dtype(x.dtype)
    with without_autocast(x.device):
        wide = x.to(dtype)
        y = convolve(wide, weight.to(dtype), bias.to(dtype), kernels, channels)
        y = y + wide if identity else y
        return (F.gelu(y) if gelu else y).to(x.dtype)
