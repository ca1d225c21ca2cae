"""Sizes: of images, of the stages' maps, and of what the attention of a TransNeXt stage pools to and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from timm.layers import to_2tuple
from timm.models import register_notrace_function
from torch import Tensor

from foveal.types import Size

MIN_SIZE = 32  # pixels: the last stage has a stride of 32


@register_notrace_function
def check_image(x: Tensor, in_chans: int) -> Tensor:
    """Raise ValueError unless ``x`` is a (B, in_chans, H, W) batch of images of at least 32 x 32 pixels; return it."""
    if x.ndim != 4 or x.shape[1] != in_chans:
        raise ValueError(f"expected images of shape (batch, {in_chans}, height, width), got {tuple(x.shape)}")
    # An exported program has its own range of sizes; a check here would only narrow it.
    if not torch.compiler.is_exporting() and (x.shape[2] < MIN_SIZE or x.shape[3] < MIN_SIZE):
        raise ValueError(
            f"images must be at least {MIN_SIZE} x {MIN_SIZE} pixels, got {x.shape[2]} x {x.shape[3]}; enlarge them"
        )
    return x


@register_notrace_function
def check_several(x: Tensor, largest: int) -> Tensor:
    """Raise ValueError for a batch of one image whose sides are at most ``largest`` pixels; return ``x``."""
    if not torch.compiler.is_exporting() and x.shape[0] == 1 and max(x.shape[2:]) <= largest:
        raise ValueError(
            "a network with batch norm cannot be trained on a batch of one image, of which it sees one value per "
            "channel; pass several images, or call eval()"
        )
    return x


def check_img_size(img_size: int | Size) -> Size:
    """Return (height, width) of a reference size; raise ValueError below 32 x 32 pixels."""
    height, width = to_2tuple(img_size)
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"img_size must be at least {MIN_SIZE} x {MIN_SIZE}, got {height} x {width}")
    return height, width


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up: the side of a map after a strided convolution with these networks' padding."""
    return (a + b - 1) // b


def stage_sizes(img_size: Size, stages: int = 4) -> list[Size]:
    """Return (H, W) of every stage's map for an image of ``img_size``: strides 4, 8, 16, 32, each rounded up."""
    sizes = [(ceil_div(img_size[0], 4), ceil_div(img_size[1], 4))]
    for _ in range(stages - 1):
        sizes.append((ceil_div(sizes[-1][0], 2), ceil_div(sizes[-1][1], 2)))
    return sizes


@dataclass(frozen=True)
class StageGeometry:
    """The sizes that the attention of a TransNeXt stage depends on, in tokens of that stage.

    Attributes:
        reference: (H, W) of the map at the network's ``img_size``, at which an interpolated position bias is computed.
        pretrain: (height, width) of the map at the pre-training size, which sets the scale of the position bias.
        sr_ratio: pooling ratio in normal mode.
        pool_size: (Hp, Wp) of linear mode, or None for normal mode.
        interpolate: whether the position bias is computed at ``reference`` and resized, instead of extrapolated.
        length_scaling: whether attention is scaled by the actual number of keys, instead of that in pre-training.
    """

    reference: Size
    pretrain: Size
    sr_ratio: int
    pool_size: Size | None = None
    interpolate: bool = False
    length_scaling: bool = True

    def pooled(self, size: Size) -> Size:
        """Return (Hp, Wp) of the pooled map of a map of ``size``: never empty, and never finer than the map itself."""
        if self.pool_size is None:
            return _at_least_one(size[0] // self.sr_ratio), _at_least_one(size[1] // self.sr_ratio)
        return _smaller(self.pool_size[0], size[0]), _smaller(self.pool_size[1], size[1])

    def pooled_length(self, size: Size) -> int | None:
        """Return the number of pooled keys for length scaling on a map of ``size``; None for the actual number."""
        if self.length_scaling:
            return None
        height, width = self.pooled(self.pretrain)
        return height * width

    def full_length(self, size: Size) -> int:
        """Return the number of keys for length scaling if all tokens of a map of ``size`` attend to each other."""
        height, width = size if self.length_scaling else self.pretrain
        return height * width


def _at_least_one(n: int) -> int:
    """Return max(n, 1), also for a symbolic n. PyTorch 2.11 does not trace ``sym_max`` of a number."""
    return cast(int, torch.sym_max(n, 1)) if isinstance(n, torch.SymInt) else max(n, 1)


def _smaller(a: int, b: int) -> int:
    """Return min(a, b), also for a symbolic b; see ``_at_least_one``."""
    return cast(int, torch.sym_min(a, b)) if isinstance(b, torch.SymInt) else min(a, b)
