"""Offsets between the pixels of a map and the cells of its pooled map: the position bias as a table of offsets.

The offset of a pixel and a cell is the pixel's index minus the mean pixel index of the cell, which adaptive average
pooling defines. On an axis of n pixels and m cells there is one offset per pixel if m divides n, 2n - n/m in all; if
not (and optionally if so) one per half pixel from 1 - n to n - 1, 4n - 3 in all. On both axes it is a number of the
pixel plus a number of the cell, so the bias of all queries and pooled keys is a small table and two additions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils._python_dispatch import _get_current_dispatch_mode

from foveal.types import Size

from ..numerics import accumulation_dtype
from ..standard import is_exporting

TABLE_BACKENDS = ("triton", "cpu")  # read tables in place; the others expand them
_KEPT = 256  # results per function: a network at one size needs at most ten


def of_sizes(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of sizes and a device so that it computes its small tensors once: on a GPU, the dozens of
    launches that they take would be repeated in every block and every step.

    Nothing is kept while a call is traced, counted or captured, or if a size is symbolic.
    """
    kept = lru_cache(_KEPT)(compute)

    @wraps(compute)
    def run(*args: Any) -> Any:
        if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None or _is_captured(args[-1]):
            return compute(*args)
        if any(isinstance(arg, torch.SymInt) for arg in args):
            return compute(*args)
        with torch.inference_mode(False), torch.no_grad():
            return kept(*args)

    return run


def _is_captured(device: torch.device) -> bool:
    """Whether the work of a CUDA device is captured into a graph, whose memory is not ours to keep."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


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


@of_sizes
def axis_pairs(size: int, pool: int, count: int, device: torch.device) -> Tensor:
    """(pool * size,) int64: the index into a table with ``count`` offsets of every cell and pixel, cell by cell."""
    pixel, cell = axis_positions(size, pool, count, device)
    return (cell[:, None] + pixel).flatten()


def pairs_of(size: int, pool: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(count, pool * size): 1 where a pair of a cell and a pixel has this offset, else 0."""
    pairs = axis_pairs(size, pool, count, device)
    return (torch.arange(count, device=device)[:, None] == pairs).to(dtype)


def axis_offsets(size: int, pool: int, device: torch.device) -> Tensor:
    """(D,) float64: the offsets of a pixel and the mean pixel index of a cell along one axis, in pixels, ascending."""
    count = offset_count(size, pool)
    step = 2 if statically_known_true(size % pool == 0) else 1
    return (1 - count + 2 * torch.arange(count, device=device)).double() * (step / 4)


class _Expand(torch.autograd.Function):
    """(h, Dr, Dc) to (h, Hp*H, Wp*W). The gradient is two products with matrices of zeros and ones: unlike PyTorch's
    gradient of an index it needs no sorting, and adds in a fixed order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, size: Size, pool: Size) -> Tensor:
        rows, columns = (axis_pairs(s, p, d, table.device) for s, p, d in zip(size, pool, table.shape[1:], strict=True))
        return table.index_select(1, rows).index_select(2, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Size, Size], output: Tensor) -> None:
        table, ctx.size, ctx.pool = inputs
        ctx.counts = table.shape[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = (
            pairs_of(s, p, d, grad.dtype, grad.device) for s, p, d in zip(ctx.size, ctx.pool, ctx.counts, strict=True)
        )
        return rows @ grad @ columns.mT, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Expand.apply(tangent, ctx.size, ctx.pool)


def expand_table(table: Tensor, size: Size, pool: Size) -> Tensor:
    """Expand a table (h, Dr, Dc) to the bias (h, H*W, P) of every query and pooled key, key by key in memory, as the
    kernels read it. Differentiable. For a half type the result is float32, so that gradients are summed in float32."""
    table = table.to(accumulation_dtype(table.dtype))
    if is_exporting():
        return _expand_by_axis(table, size, pool)
    # Dynamo does not trace functions with a forward-mode derivative.
    expand = _Expand.forward if torch.compiler.is_compiling() else _Expand.apply
    pairs = expand(table, size, pool)
    by_key = pairs.unflatten(2, (pool[1], size[1])).unflatten(1, (pool[0], size[0])).transpose(2, 3)
    return by_key.flatten(3, 4).flatten(1, 2).mT


def _expand_by_axis(table: Tensor, size: Size, pool: Size) -> Tensor:
    """``expand_table`` without splitting a symbolic dimension, or joining two that were turned around: both compare
    sizes, and an exported program would be bound to some of them."""
    axes = zip(size, pool, table.shape[1:], strict=True)
    (rows, row_cells), (columns, column_cells) = (axis_positions(*axis, table.device) for axis in axes)
    by_cell = table[:, row_cells[:, None, None, None] + rows[:, None], column_cells[:, None, None] + columns]
    return by_cell.flatten(3, 4).flatten(1, 2).mT
