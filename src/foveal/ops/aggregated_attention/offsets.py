"""Offsets between the pixels of a map and the cells of its pooled map: the position bias as a table of offsets.

The offset of a pixel and a cell is the pixel's index minus the mean pixel index of the cell, which adaptive average
pooling defines. On an axis of n pixels and m cells there is one offset per pixel if m divides n, 2n - n/m in all; if
not (and optionally if so) one per half pixel from 1 - n to n - 1, 4n - 3 in all. On both axes it is a number of the
pixel plus a number of the cell, so the bias of all queries and pooled keys is a small table and two additions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.types import Size

from ..numerics import accumulation_dtype

TABLE_BACKEND = "cpu"  # reads tables in place; the others expand them


def doubled_centres(size: int, pool: int, device: torch.device) -> Tensor:
    """(pool,) int64: twice the mean pixel index of every cell of adaptive average pooling from ``size`` to ``pool``."""
    cell = torch.arange(pool, device=device)
    start = cell * size // pool
    end = ((cell + 1) * size + pool - 1) // pool
    return start + end - 1


def offset_count(size: int, pool: int) -> int:
    """Return the number of distinct offsets of ``size`` pixels and ``pool`` cells along one axis: one per pixel if the
    pool divides the size, else one per half pixel (also if tracing cannot decide)."""
    if pool > 0 and statically_known_true(size % pool == 0):
        return 2 * size - size // pool
    return 4 * size - 3


def fits_axis(count: int, size: int, pool: int) -> bool:
    """Whether ``count`` offsets fit this axis: half pixels always do, whole pixels if the pool divides the size."""
    return count == 4 * size - 3 or (pool > 0 and size % pool == 0 and count == 2 * size - size // pool)


def axis_positions(size: int, pool: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return pixel (size,) and cell (pool,) in int64: pixel i and cell p have the offset at index pixel[i] + cell[p] of
    a table with ``count`` ascending offsets, one that ``fits_axis`` accepts."""
    step = 1 if count == 4 * size - 3 else 2  # from offset to offset, in half pixels
    first = 2 - 2 * size if step == 1 else 1 - count
    centres = doubled_centres(size, pool, device)
    return (2 // step) * torch.arange(size, device=device), (-first - centres) // step


def axis_offsets(size: int, pool: int, device: torch.device) -> Tensor:
    """(D,) float64: the offsets of a pixel and the mean pixel index of a cell along one axis, in pixels, ascending."""
    count = offset_count(size, pool)
    step = 2 if statically_known_true(size % pool == 0) else 1
    return (1 - count + 2 * torch.arange(count, device=device)).double() * (step / 4)


def expand_table(table: Tensor, size: Size, pool: Size) -> Tensor:
    """Expand a table (h, Dr, Dc) to the bias (h, H*W, P) of every query and pooled key, key by key in memory, as the
    kernels read it. Differentiable. For a half type the result is float32, so that gradients are summed in float32."""
    query_row, key_row = axis_positions(size[0], pool[0], table.shape[1], table.device)
    query_column, key_column = axis_positions(size[1], pool[1], table.shape[2], table.device)
    query = (query_row[:, None] * table.shape[2] + query_column).flatten()
    key = (key_row[:, None] * table.shape[2] + key_column).flatten()
    return table.to(accumulation_dtype(table.dtype)).flatten(1)[:, key[:, None] + query].mT
