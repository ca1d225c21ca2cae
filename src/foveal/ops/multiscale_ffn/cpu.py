"""Multi-scale feed-forward network by the compiled CPU kernels: packs the weights and fills the ``FfnCall`` of
native.h."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..native import Kernel, threads_for, tile
from ..native.panels import addresses, joined, panels

_SIZES = ("batch", "height", "width", "channels", "panels", "together", "rows", "images", "parts", "area", "threads")
_WEIGHTS = ("weight1", "bias1", "scale", "shift", "taps", "tap_biases", "weight2", "bias2")
_HIDDEN = 256 << 10  # bytes of the hidden map that should stay in the cache
_FEWEST = 4  # panels multiplied together, so that sums are seldom loaded and stored
_PIXELS = 196  # of images taken together, so that weights are read from far caches less often
_TOKENS = 96  # multiplied together, so that they stay in the nearest cache


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("x", "out")),
        ("kernels", ctypes.POINTER(ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in (*_WEIGHTS, "workspace")),
    ]


_forward = Kernel("multiscale_ffn", _Call)


@functools.cache
def _order(panel: int, kernels: tuple[int, ...], channels: tuple[int, ...]) -> list[tuple[int, list[int]]]:
    """Return the kernel size and the channels of every panel, -1 where it is padded. Kernel sizes take turns, so that
    equal parts of the panels take equal time."""
    ends = list(itertools.accumulate(channels, initial=0))
    groups = []
    for kernel, (first, end) in zip(kernels, itertools.pairwise(ends), strict=True):
        padded = [*range(first, end), *[-1] * (-(end - first) % panel)]
        groups.append([(kernel, padded[i : i + panel]) for i in range(0, len(padded), panel)])
    return [one for turn in itertools.zip_longest(*groups) for one in turn if one is not None]


def _sizes(count: int, area: int, channels: int) -> list[int]:
    """Return how many numbers of each of the weights ``_WEIGHTS`` there are for ``count`` panels, in order."""
    inner, outer = count * tile(), math.ceil(channels / tile()) * tile()
    return [inner * channels, inner, inner, inner, inner * area, inner, inner * outer, outer]


def pack(
    kernels: tuple[int, ...], channels: tuple[int, ...], norm_weight: Tensor, norm_bias: Tensor, weight1: Tensor,
    scale: Tensor, shift: Tensor, weight2: Tensor, bias2: Tensor, taps: Sequence[Tensor], tap_biases: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Return all weights in one float32 tensor, in the order in which the instruction set in use reads them. The norm's
    gain and bias become part of the first product; zeros fill the last panel of every kernel size."""
    panel, area, outer = tile(), max(kernels) ** 2, -bias2.numel() % tile()
    places = [channel for _, padded in _order(panel, kernels, channels) for channel in padded]
    order = torch.tensor(places, device=bias2.device)

    def inner(weight: Tensor) -> Tensor:
        return torch.cat([weight, weight.new_zeros(1, *weight.shape[1:])])[order]

    centred = []
    for tap, kernel in zip(taps, kernels, strict=True):
        flat = tap.reshape(-1, kernel * kernel).clone()
        flat[:, kernel * kernel // 2] += 1  # the identity
        centred.append(F.pad(flat, (0, area - kernel * kernel)))
    return joined(
        [
            panels(inner(weight1 * norm_weight), panel),
            inner(weight1 @ norm_bias),
            inner(scale),
            inner(shift),
            inner(torch.cat(centred)).unflatten(0, (-1, panel // 2)).transpose(1, 2),
            inner(torch.cat(list(tap_biases))),
            panels(F.pad(inner(weight2.T).T, (0, 0, 0, outer)), panel),
            F.pad(bias2, (0, outer)),
        ]
    )


def forward(x: Tensor, packed: Tensor, kernels: tuple[int, ...], channels: tuple[int, ...], epsilon: float) -> Tensor:
    """x + FFN of the normalised x: (B, H, W, C) in float32."""
    x = x.contiguous()
    if not x.numel():
        return torch.empty_like(x)
    batch, height, width, dim = x.shape
    sizes = [kernel for kernel, _ in _order(tile(), kernels, channels)]
    count, area = len(sizes), max(kernels) ** 2
    threads = threads_for(2 * x.numel() * sum(channels))
    images = min(math.ceil(_PIXELS / (height * width)), math.ceil(batch / threads))
    parts = min(count, threads // math.gcd(math.ceil(batch / images), threads))
    together = max(_FEWEST, _HIDDEN // (images * height * width * tile() * 4))
    out = x.new_empty(parts, *x.shape)
    _forward(
        _Call(
            batch, height, width, dim, count, min(together, math.ceil(count / parts)), _TOKENS, images, parts, area,
            threads, epsilon, x.data_ptr(), out.data_ptr(), (ctypes.c_int64 * count)(*sizes),
            *addresses(packed, _sizes(count, area, dim)),
        )
    )  # fmt: skip
    return out[0] if parts == 1 else out.sum(0)
