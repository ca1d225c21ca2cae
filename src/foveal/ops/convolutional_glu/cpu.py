"""Convolutional GLU by the compiled CPU kernels: packs the weights and fills the ``GluCall`` of native.h."""

from __future__ import annotations

import ctypes
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..native import Kernel, threads_for, tile
from ..native.panels import addresses, joined, panels

_SIZES = ("batch", "height", "width", "channels", "panels", "bands", "rows", "threads")
_WEIGHTS = ("weight1", "bias1", "kernels", "kernel_biases", "weight2", "bias2")
_TOKENS = 56  # at least as many are multiplied together, so that weights are read from far caches less often


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("x", "out", *_WEIGHTS, "workspace")),
    ]


_forward = Kernel("convolutional_glu", _Call)


def _sizes(channels: int, hidden: int) -> list[int]:
    """Return how many numbers of each of the weights ``_WEIGHTS`` there are in the packed weights, in order."""
    panel = tile()
    inner, outer = math.ceil(hidden / panel) * panel, math.ceil(channels / panel) * panel
    return [2 * inner * channels, 2 * inner, 9 * inner, inner, inner * outer, outer]


def pack(
    norm_weight: Tensor, norm_bias: Tensor, weight1: Tensor, bias1: Tensor, kernel: Tensor, kernel_bias: Tensor,
    weight2: Tensor, bias2: Tensor,
) -> Tensor:  # fmt: skip
    """Return all weights in one float32 tensor, in the order in which the instruction set in use reads them. The norm's
    gain and bias become part of the first product; zeros fill the last panels."""
    panel, (channels, hidden) = tile(), weight2.shape
    inner, outer = -hidden % panel, -channels % panel
    halves = [F.pad(half, (0, 0, 0, inner)) for half in (weight1 * norm_weight).chunk(2)]
    by_lane = F.pad(kernel.reshape(hidden, 9), (0, 0, 0, inner)).unflatten(0, (-1, panel // 2)).transpose(1, 2)
    parts = [
        panels(torch.cat(halves), panel),
        torch.cat([F.pad(half, (0, inner)) for half in (bias1 + weight1 @ norm_bias).chunk(2)]),
        by_lane,
        F.pad(kernel_bias, (0, inner)),
        panels(F.pad(weight2, (0, inner, 0, outer)), panel),
        F.pad(bias2, (0, outer)),
    ]
    return joined(parts)


def _bands(batch: int, height: int, threads: int) -> int:
    """How many bands the rows of an image are cut into: as few as give every thread the same share, for each computes
    two rows of its neighbours again."""
    return min(height, threads // math.gcd(batch, threads))


def forward(x: Tensor, packed: Tensor, hidden: int, epsilon: float) -> Tensor:
    """x + GLU of the normalised x: (B, H, W, C) in float32, with ``hidden`` channels inside."""
    x = x.contiguous()
    out = torch.empty_like(x)
    if not x.numel():
        return out
    batch, height, width, channels = x.shape
    threads = threads_for(3 * x.numel() * hidden)
    weights = addresses(packed, _sizes(channels, hidden))
    _forward(
        _Call(
            batch, height, width, channels, math.ceil(hidden / tile()), _bands(batch, height, threads),
            min(height, math.ceil(_TOKENS / width)), threads, epsilon, x.data_ptr(), out.data_ptr(), *weights,
        )
    )  # fmt: skip
    return out
