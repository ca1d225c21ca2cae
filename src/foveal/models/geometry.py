"""How a TransNeXt stage sees sizes: what it pools to, what it counts, and at which sizes its position bias is
defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

Size = tuple[int, int]


@dataclass(frozen=True)
class StageGeometry:
    """The sizes behind one stage's attention, in tokens of that stage.

    Attributes:
        reference: (H, W) of the map at the net's `img_size`: where an interpolated position bias is computed.
        pretrain: (height, width) of the map at the pre-training size: the scale of the position bias.
        sr_ratio: the map is pooled by this much in normal mode.
        pool_size: (Hp, Wp) of linear mode, or None for normal mode.
        interpolate: whether the position bias is computed at `reference` and resized, instead of extrapolated.
        length_scaling: whether attention is scaled by the number of keys there are, instead of those there were in
            pre-training.
    """

    reference: Size
    pretrain: Size
    sr_ratio: int
    pool_size: Size | None = None
    interpolate: bool = False
    length_scaling: bool = True

    def pooled(self, size: Size) -> Size:
        """(Hp, Wp) of the pooled map of a map of `size`: never empty, and never finer than the map itself."""
        if self.pool_size is None:
            return _at_least_one(size[0] // self.sr_ratio), _at_least_one(size[1] // self.sr_ratio)
        return _smaller(self.pool_size[0], size[0]), _smaller(self.pool_size[1], size[1])

    def pooled_length(self, size: Size) -> int | None:
        """How many pooled keys length scaling counts on a map of `size`; None for those there are."""
        if self.length_scaling:
            return None
        height, width = self.pooled(self.pretrain)
        return height * width

    def full_length(self, size: Size) -> int:
        """How many keys length scaling counts where all tokens of a map of `size` attend to each other."""
        height, width = size if self.length_scaling else self.pretrain
        return height * width


def _at_least_one(n: int) -> int:
    """max(n, 1), also for a symbolic n."""
    return cast(int, torch.sym_max(n, 1))


def _smaller(a: int, b: int) -> int:
    """min(a, b), also for symbolic numbers."""
    return cast(int, torch.sym_min(a, b))
