"""Input-dependent depthwise convolution by the compiled CPU kernels: packs the weights and fills the ``IdconvCall`` of
native.h."""

from __future__ import annotations

import ctypes
import math

import torch.nn.functional as F
from torch import Tensor

from ..native import Kernel, Map, map_of, side_by_side, threads_for, tile
from ..native.panels import addresses, joined, panels

_SIZES = ("batch", "height", "width", "channels", "kernel", "groups", "squeezed", "parts", "threads")
_WEIGHTS = ("weight1", "bias1", "weight2", "bias2", "learned")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        ("x", Map),
        *((name, ctypes.c_void_p) for name in ("out", *_WEIGHTS, "workspace")),
    ]


_forward = Kernel("idconv", _Call)


def _sizes(channels: int, squeezed: int, groups: int, positions: int) -> list[int]:
    """Return how many numbers of each of the weights ``_WEIGHTS`` there are in the packed weights, in order."""
    outer, inner = (math.ceil(n / tile()) * tile() for n in (channels, squeezed))
    return [inner * channels, inner, groups * outer * squeezed, groups * outer, groups * outer * positions]


def pack(weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, learned: Tensor) -> Tensor:
    """Return all weights in one float32 tensor, in the order in which the instruction set in use reads them."""
    panel, groups = tile(), len(learned)
    inner, outer = -bias1.numel() % panel, -learned.shape[-1] % panel
    expand = F.pad(weight2.unflatten(0, (groups, -1)), (0, 0, 0, outer)).unflatten(1, (-1, panel))
    by_lane = F.pad(learned, (0, outer)).unflatten(-1, (-1, 2, panel // 2))
    return joined(
        [
            panels(F.pad(weight1, (0, 0, 0, inner)), panel),
            F.pad(bias1, (0, inner)),
            expand.permute(1, 0, 3, 2),
            F.pad(bias2.unflatten(0, (groups, -1)), (0, outer)).unflatten(1, (-1, panel)).transpose(0, 1),
            by_lane.permute(2, 0, 3, 1, 4),
        ]
    )


def forward(x: Tensor, packed: Tensor, squeezed: int, groups: int, positions: int) -> Tensor:
    """The convolved map (B, H, W, C) in float32."""
    x, out = side_by_side(x), x.new_empty(x.shape)
    if not x.numel():
        return out
    batch, height, width, channels = x.shape
    threads = threads_for(x.numel() * positions)
    parts = min(math.ceil(channels / tile()), threads // math.gcd(batch, threads))
    _forward(
        _Call(
            batch, height, width, channels, math.isqrt(positions), groups, squeezed, parts, threads,
            map_of(x), out.data_ptr(), *addresses(packed, _sizes(channels, squeezed, groups, positions)),
        )
    )  # fmt: skip
    return out
