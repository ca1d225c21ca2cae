"""The learned position bias of a TransXNet's stage."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.ops.numerics import without_autocast
from foveal.types import Size

from ..cache import SizeCache
from ..sizes import ceil_div


@register_notrace_module
class PositionTable(nn.Module):
    """The relative position bias of a stage, shared by its blocks (section III-B2).

    A learned table. For maps of another size it is resized bicubically as a 2-D image of query by key positions, as the
    released weights were.
    """

    def __init__(self, heads: int, size: Size, sr_ratio: int, **dd: Any):
        super().__init__()
        self.sr_ratio = sr_ratio
        self.table = nn.Parameter(torch.empty(1, heads, *self._shape(*size), **dd))
        self._cache = SizeCache()
        self.reset_parameters()

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the numbers of queries and keys of a map of this size."""
        return height * width, ceil_div(height, self.sr_ratio) * ceil_div(width, self.sr_ratio)

    def reset_parameters(self) -> None:
        """Initialise to no bias."""
        nn.init.zeros_(self.table)

    def train(self, mode: bool = True) -> PositionTable:
        self._cache.clear()
        return super().train(mode)

    def resize(self, size: Size) -> None:
        """Resize the learned table for maps of ``size``."""
        shape = self._shape(*size)
        if tuple(self.table.shape[2:]) != shape:
            with torch.no_grad():
                resized = resize_table(self.table, shape)
            self.table = nn.Parameter(resized, requires_grad=self.table.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """Return the bias (1, heads, H*W, keys) for a map (B, C, H, W)."""
        shape = self._shape(x.shape[2], x.shape[3])
        # Resizing to the same shape changes nothing. A comparison of a dynamic size would specialise a traced program.
        if all(statically_known_true(ours == asked) for ours, asked in zip(self.table.shape[2:], shape, strict=True)):
            return self.table
        return self._cache.get(shape, (self.table,), lambda: resize_table(self.table, shape))


def resize_table(table: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize a table (1, h, queries, keys) bicubically to ``shape`` (align_corners=False), in its own dtype."""
    with without_autocast(table.device):
        wide = table.to(torch.promote_types(table.dtype, torch.float32))
        return F.interpolate(wide, size=shape, mode="bicubic", align_corners=False).to(table.dtype)
