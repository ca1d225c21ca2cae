"""Multi-scale depthwise convolution from PyTorch's operators, for runtimes of exported programs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import split_weight


def multiscale_dwconv_standard(
    x: Tensor, weight: Tensor, bias: Tensor, kernels: Sequence[int], channels: Sequence[int],
    identity: bool, gelu: bool, entry: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """See ``foveal.ops.multiscale_dwconv``; here the parameters of all groups are concatenated."""
    maps = x.permute(0, 3, 1, 2)
    if entry is not None:
        scale, shift = (one.to(x.dtype)[:, None, None] for one in entry)
        maps = F.gelu(maps) * scale + shift
    weights = split_weight(weight, kernels, channels)
    if identity:
        weights = [with_identity(one) for one in weights]
    groups = zip(maps.split(list(channels), 1), weights, bias.split(list(channels)), strict=True)
    y = torch.cat([convolve(*group) for group in groups], 1)
    return (F.gelu(y) if gelu else y).permute(0, 2, 3, 1)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve a map (B, C, H, W) with (C, 1, K, K)."""
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def with_identity(weight: Tensor) -> Tensor:
    """Add 1 at the centres of kernels (C, 1, K, K), so that the convolution adds its input."""
    return weight + F.pad(weight.new_ones(1, 1, 1, 1), [weight.shape[-1] // 2] * 4)
