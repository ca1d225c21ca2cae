"""Backward kernels of aggregated attention for a position bias table: from the gradients of pairs of a query and a key.

What is read from a table is a product of two axes, so the gradient gathers along columns first, to (rows of queries,
rows of cells, columns of the table), and then along rows. The gradients of all pairs would be as large as the dense
position bias; they exist for a strip of query rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...triton import jit, tl
from .position_bias import Axis, TableBias

PAIRS = 1 << 24  # whose gradients exist at a time, unless one row of queries has more: 64 MiB
_CELLS, _LANES = 16, 64
SIZES = (
    "height", "pool_rows", "pool_columns", "rows", "columns", "first_row", "strip", "step", "size", "reference", "most",
)  # fmt: skip


@jit
def pixel_share(pixel, position, size, reference):
    """The share of a pixel of the table in the bias of a pixel of the map at ``position``."""
    centre = tl.maximum((2 * position + 1) * reference - size, 0)  # as in ``interpolation``
    centre = tl.minimum(centre, 2 * size * (reference - 1))
    away = tl.abs(centre - 2 * size * pixel).to(tl.float32)
    return tl.maximum(1.0 - away / (2 * size), 0.0)


@jit
def gather_pixels(start, offset, place, inside, pixel_stride, step, size, reference, most, RESIZED: tl.constexpr):
    """(CELLS, LANES): the sum over the pixels that have these offsets (1, LANES) from the cells at ``place``
    (CELLS, 1), where ``inside``; ``start`` (CELLS, LANES) are the addresses of pixel 0."""
    distance = tl.maximum(offset - place, 0)
    pixel = distance // step  # of the table
    inside = inside & (offset >= place) & (pixel * step == distance) & (pixel < reference)
    if RESIZED:  # a pixel of the map has a share in the two next to its centre
        first = tl.maximum((2 * pixel - 1) * size + reference - 1, 0) // (2 * reference)
        total = tl.zeros(inside.shape, tl.float32)
        for number in range(0, most):
            x = first + number
            share = pixel_share(pixel, x, size, reference)
            mask = inside & (x < size) & (share > 0.0)
            total += share * tl.load(start + x * pixel_stride, mask=mask, other=0.0)
    else:
        total = tl.load(start + pixel * pixel_stride, mask=inside, other=0.0)
    return total


@jit
def gather_cells(
    start, offset, lane, lane_inside, cells_ptr, shares_ptr, pool, cell_stride, pixel_stride, step, size, reference,
    most, RESIZED: tl.constexpr, CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """(LANES,): the sum over all cells and pixels along an axis that have these offsets (LANES,).

    Args:
        start: address of the first cell and pixel, to which each lane adds ``lane``.
        most: how many pixels of the map have a share in one pixel of the table, at most.
    """
    total = tl.zeros((CELLS, LANES), tl.float32)
    for done in range(0, pool, CELLS):
        cell = done + tl.arange(0, CELLS)
        inside = (cell < pool)[:, None] & lane_inside[None, :]
        source = (start + cell.to(tl.int64) * cell_stride)[:, None] + lane[None, :]
        place = tl.load(cells_ptr + cell, mask=cell < pool, other=0)[:, None]
        part = gather_pixels(source, offset[None, :], place, inside, pixel_stride, step, size, reference, most, RESIZED)
        if RESIZED:
            share = tl.load(shares_ptr + cell, mask=cell < pool, other=0.0)[:, None]
            place = tl.load(cells_ptr + pool + cell, mask=cell < pool, other=0)[:, None]
            next_part = gather_pixels(
                source, offset[None, :], place, inside, pixel_stride, step, size, reference, most, RESIZED
            )
            part = part * (1.0 - share) + next_part * share
        total += part
    return tl.sum(total, 0)


@jit(do_not_specialize=SIZES)
def gather_columns_kernel(
    grad_ptr, cells_ptr, shares_ptr, out_ptr, height, pool_rows, pool_columns, columns, first_row, strip, step, size,
    reference, most, RESIZED: tl.constexpr, CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write rows ``first_row`` to before ``first_row + strip`` of (h, H, Hp, Dc) from the gradients of pairs
    (h, P, strip * W). A program computes LANES columns of one row of cells, for one row of queries."""
    program = tl.program_id(0)
    blocks = tl.cdiv(columns, LANES)
    column = program % blocks * LANES + tl.arange(0, LANES)
    row, y = program // blocks % pool_rows, program // blocks // pool_rows % strip
    head = (program // blocks // pool_rows // strip).to(tl.int64)
    queries = strip * size
    start = grad_ptr + (head * pool_rows + row) * pool_columns * queries + y * size
    total = gather_cells(
        start, column, 0 * column, column < columns, cells_ptr, shares_ptr, pool_columns, queries, 1, step, size,
        reference, most, RESIZED, CELLS, LANES,
    )  # fmt: skip
    to = out_ptr + ((head * height + first_row + y) * pool_rows + row) * columns
    tl.store(to + column, total, mask=column < columns)


@jit(do_not_specialize=SIZES)
def gather_rows_kernel(
    grad_ptr, cells_ptr, shares_ptr, out_ptr, pool_rows, rows, columns, step, size, reference, most,
    RESIZED: tl.constexpr, CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the table (h, Dr, Dc) from what ``gather_columns_kernel`` wrote. A program computes LANES
    columns of one row."""
    program = tl.program_id(0)
    blocks = tl.cdiv(columns, LANES)
    column = program % blocks * LANES + tl.arange(0, LANES)
    row = program // blocks % rows
    head = (program // blocks // rows).to(tl.int64)
    start = grad_ptr + head * size * pool_rows * columns
    total = gather_cells(
        start, row + 0 * column, column, column < columns, cells_ptr, shares_ptr, pool_rows, columns,
        pool_rows * columns, step, size, reference, most, RESIZED, CELLS, LANES,
    )  # fmt: skip
    tl.store(out_ptr + (head * rows + row) * columns + column, total, mask=column < columns)


def table_gradient(bias: TableBias, of_pairs: Callable[[int, int], Tensor]) -> Tensor:
    """Gradient of a table (h, Dr, Dc), in float32.

    ``of_pairs`` returns the gradients (h, P, last - first) of the bias of all pooled keys and the queries from number
    ``first`` to before ``last``.
    """
    rows, columns, heads = bias.rows, bias.columns, bias.table.shape[0]
    by_row = bias.table.new_empty(heads, rows.size, rows.pool, columns.count, dtype=torch.float32)
    constants = dict(RESIZED=bias.resized, CELLS=_CELLS, LANES=_LANES)
    blocks = -(-columns.count // _LANES)
    strip = max(PAIRS // (heads * rows.pool * columns.pool * columns.size), 1)
    for first in range(0, rows.size, strip):
        count = min(strip, rows.size - first)
        gather_columns_kernel[(heads * count * rows.pool * blocks,)](
            of_pairs(first * columns.size, (first + count) * columns.size),
            columns.cells, columns.shares, by_row, rows.size, rows.pool, columns.pool, columns.count, first, count,
            columns.step, columns.size, columns.reference, _most(columns), **constants,
        )  # fmt: skip
    grad = bias.table.new_empty(bias.table.shape, dtype=torch.float32)
    gather_rows_kernel[(heads * rows.count * blocks,)](
        by_row, rows.cells, rows.shares, grad, rows.pool, rows.count, columns.count, rows.step, rows.size,
        rows.reference, _most(rows), **constants,
    )  # fmt: skip
    return grad


def _most(axis: Axis) -> int:
    """How many pixels of the map are interpolated from one of the table, at most."""
    return 2 * axis.size // axis.reference + 2
