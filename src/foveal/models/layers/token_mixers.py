"""The token mixers that the TransXNet paper compares with its D-Mixer (table VI). Tokens are (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..sizes import StageGeometry
from .acmix import ACmix
from .mixing_block import MixingBlock
from .separable_conv import SeparableConv
from .spatial_reduction import SpatialReductionAttention
from .window_attention import WindowAttention

_WINDOW = 7
_SHIFT = _WINDOW // 2  # of the windows in every second block
_ANY = (1, 1)  # the attention reads sizes from its input


def _sep_conv(dim: int, heads: int, sr_ratio: int, odd: bool, drops: tuple[float, float], **dd: Any) -> nn.Module:
    return SeparableConv(dim, proj_drop=drops[1], **dd)


def _sra(dim: int, heads: int, sr_ratio: int, odd: bool, drops: tuple[float, float], **dd: Any) -> nn.Module:
    return SpatialReductionAttention(dim, heads, StageGeometry(_ANY, _ANY, sr_ratio), *drops, **dd)


def _window(dim: int, heads: int, sr_ratio: int, odd: bool, drops: tuple[float, float], **dd: Any) -> nn.Module:
    return WindowAttention(dim, heads, _WINDOW, _SHIFT if odd else 0, *drops, **dd)


def _mixing_block(dim: int, heads: int, sr_ratio: int, odd: bool, drops: tuple[float, float], **dd: Any) -> nn.Module:
    return MixingBlock(dim, heads, _WINDOW, 3, *drops, **dd)


def _acmix(dim: int, heads: int, sr_ratio: int, odd: bool, drops: tuple[float, float], **dd: Any) -> nn.Module:
    return ACmix(dim, heads, _WINDOW, _SHIFT if odd else 0, *drops, **dd)


#: name -> function of (dim, heads, sr_ratio, odd, drops, device, dtype): whether the block's index in its stage is odd,
#: and the dropout of probabilities and output
TOKEN_MIXERS: dict[str, Callable[..., nn.Module]] = {
    "sep_conv": _sep_conv,
    "sra": _sra,
    "window": _window,
    "mixing_block": _mixing_block,
    "acmix": _acmix,
}
