"""The parts of an input-dependent depthwise convolution around its two layers, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..standard import adaptive_pool


def pool(x: Tensor, kernel: int) -> Tensor:
    """Average x (B, H, W, C) over kernel * kernel cells, and over all pixels: (B, kernel * kernel + 1, C)."""
    maps = x.permute(0, 3, 1, 2)
    cells, everywhere = (adaptive_pool(maps, (side, side)).flatten(2) for side in (kernel, 1))
    return torch.cat([cells, everywhere], 2).transpose(1, 2)


def mix(scores: Tensor, learned: Tensor) -> tuple[Tensor, Tensor]:
    """Mix kernels (B, C, K, K) and biases (B, C) from ``learned`` (G, K * K + 1, C), by a softmax over groups of
    ``scores`` (B, K * K + 1, G * C)."""
    kernel = math.isqrt(learned.shape[1])
    shares = scores.unflatten(-1, (len(learned), -1)).softmax(2)
    mixed = (shares * learned.transpose(0, 1)).sum(2).transpose(1, 2)
    return mixed[..., :-1].unflatten(-1, (kernel, kernel)), mixed[..., -1]
