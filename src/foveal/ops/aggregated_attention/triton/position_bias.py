"""How the kernels read the position bias: dense, from a table of offsets, or from a table of another map.

A table has the bias of a pixel and a cell at a number of the pixel plus a number of the cell (``offsets``). Kernels
compute the pixel's; the cell's takes more divisions, and is read from memory. Resizing is separable: a first kernel
resizes a table of another map along its rows, to (rows of queries, rows of cells, columns of the table), and from a row
of that the others interpolate between two pixels and two cells while they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from foveal.types import Size

from ...triton import constant, jit, tl
from ..offsets import axis_positions, of_sizes
from ..resize import linear_taps

LOG2E = constant(1.4426950408889634)
COLUMN_BLOCK = 128  # columns of a table that a program resizes at a time
# Numbers that change with the image.
BIAS_SIZES = ("bias_head", "bias_row", "bias_query", "bias_key", "bias_width", "bias_reference")


@jit
def interpolation(position, size, reference):
    """The two neighbours that linear interpolation of an axis from ``reference`` to ``size`` reads at a position, and
    the share of the second: ``linear_taps``, in whole numbers up to the last quotient."""
    centre = tl.maximum((2 * position + 1) * reference - size, 0)  # in units of 1 / (2 * size)
    first = tl.minimum(centre // (2 * size), reference - 1)
    share = (centre - first * 2 * size).to(tl.float32) / (2 * size)
    return first, tl.minimum(first + 1, reference - 1), share


@jit
def load_pool_bias(bias, query, key, queries, pooled, BIAS_FORM: tl.constexpr):
    """(keys, queries) of the position bias to base 2, for the numbers of queries and pooled keys; -inf for keys that
    there are not, and some finite number for queries that there are not.

    Neighbouring queries are neighbours in a table, so lanes that hold them load wide; hence the order of the axes.

    Args:
        bias: address of the head, both pointers to keys, and the strides and sizes that ``DenseBias`` and ``TableBias``
            describe.
        BIAS_FORM: "queries", "keys" or "neither", the contiguous axis of a dense bias; "table" or "resized".
    """
    start, keys_ptr, shares_ptr, row_stride, query_stride, key_stride, width, reference = bias
    key_inside = key < pooled
    if BIAS_FORM == "resized" or BIAS_FORM == "table":
        mask = key_inside[:, None] & (query < queries)[None, :]
        row = start + (query // width).to(tl.int64) * row_stride
        x = query % width
        cell = tl.load(keys_ptr + key, mask=key_inside, other=0)[:, None]
        if BIAS_FORM == "table":
            loaded = tl.load((row + x * query_stride)[None, :] + cell, mask=mask, other=0.0).to(tl.float32)
        else:
            next_cell = tl.load(keys_ptr + pooled + key, mask=key_inside, other=0)[:, None]
            cell_share = tl.load(shares_ptr + key, mask=key_inside, other=0.0)[:, None]
            first, second, share = interpolation(x, width, reference)
            left, right = (row + first * query_stride)[None, :], (row + second * query_stride)[None, :]
            before = tl.load(left + cell, mask=mask, other=0.0) * (1.0 - share)[None, :]
            before += tl.load(right + cell, mask=mask, other=0.0) * share[None, :]
            after = tl.load(left + next_cell, mask=mask, other=0.0) * (1.0 - share)[None, :]
            after += tl.load(right + next_cell, mask=mask, other=0.0) * share[None, :]
            loaded = before * (1.0 - cell_share) + after * cell_share
        return tl.where(key_inside[:, None], LOG2E * loaded, -float("inf"))
    else:  # loaded with queries first: the other way round, the kernel of the query gradients spills more
        by_query = tl.minimum(query, queries - 1).to(tl.int64)[:, None]
        by_key = key.to(tl.int64)[None, :]
        by_query = by_query if BIAS_FORM == "queries" else by_query * query_stride
        by_key = by_key if BIAS_FORM == "keys" else by_key * key_stride
        loaded = tl.load(start + (by_query + by_key), mask=key_inside[None, :], other=-float("inf"))
        return tl.trans(loaded.to(tl.float32) * LOG2E)


@jit(do_not_specialize=("height", "pool_rows", "columns", "step", "reference", "table_head"))
def resize_rows_kernel(
    table_ptr, cells_ptr, shares_ptr, out_ptr, height, pool_rows, columns, step, reference, table_head,
    COLUMN_BLOCK: tl.constexpr,
):  # fmt: skip
    """Write (h, H, Hp, Dc) from a table (h, Dr, Dc): one row of cells for one row of queries per program."""
    program = tl.program_id(0)
    cell, y = program % pool_rows, program // pool_rows % height
    head = (program // pool_rows // height).to(tl.int64)
    first, second, share = interpolation(y, height, reference)
    place, next_place = tl.load(cells_ptr + cell), tl.load(cells_ptr + pool_rows + cell)
    cell_share = tl.load(shares_ptr + cell)
    start = table_ptr + head * table_head
    for done in range(0, columns, COLUMN_BLOCK):
        column = done + tl.arange(0, COLUMN_BLOCK)
        inside = column < columns
        above, below = start + first * step * columns + column, start + second * step * columns + column
        before = tl.load(above + place * columns, mask=inside, other=0.0).to(tl.float32) * (1.0 - share)
        before += tl.load(below + place * columns, mask=inside, other=0.0).to(tl.float32) * share
        after = tl.load(above + next_place * columns, mask=inside, other=0.0).to(tl.float32) * (1.0 - share)
        after += tl.load(below + next_place * columns, mask=inside, other=0.0).to(tl.float32) * share
        row = before * (1.0 - cell_share) + after * cell_share
        tl.store(out_ptr + program.to(tl.int64) * columns + column, row, mask=inside)


@dataclass(frozen=True)
class DenseBias:
    """A position bias (h, N, P) of any strides."""

    bias: Tensor

    @property
    def order(self) -> str:
        """Which axis is contiguous in memory: loads along it are wide."""
        if self.bias.stride(2) == 1:
            return "keys"
        return "queries" if self.bias.stride(1) == 1 else "neither"

    @property
    def arguments(self) -> dict[str, Any]:
        """What kernels take to read it."""
        head, query, key = self.bias.stride()
        unused = dict(bias_keys_ptr=self.bias, bias_shares_ptr=self.bias, bias_row=0, bias_width=1, bias_reference=1)
        strides = dict(bias_head=head, bias_query=query, bias_key=key)
        return dict(pool_bias_ptr=self.bias, **strides, **unused, BIAS_FORM=self.order)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a table: ``size`` pixels and ``pool`` cells of the call, ``reference`` pixels and ``count`` offsets
    of the table, ``step`` offsets from pixel to pixel.

    ``cells`` (2, pool) int32 are the places, for pixel 0, of both cells between which a cell of the call lies;
    ``shares`` (pool,) float32 are those of the second. Unless the table is resized, both are the cell itself.
    """

    size: int
    pool: int
    reference: int
    count: int
    step: int
    cells: Tensor
    shares: Tensor


@of_sizes
def _axis(size: int, pool: int, reference: int, reference_pool: int, count: int, device: torch.device) -> Axis:
    first, shares = linear_taps(pool, reference_pool, device)
    neighbours = torch.stack([first, (first + 1).clamp(max=reference_pool - 1)])
    cells = axis_positions(reference, reference_pool, count, device)[1][neighbours]
    step = 2 if count == 4 * reference - 3 else 1  # half a pixel apart, or one
    return Axis(size, pool, reference, count, step, cells.int(), shares.float())


@of_sizes
def _keys(rows: Axis, columns: Axis, resized: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The places of all pooled keys for the first query (2, P), and the share of the second (P,)."""
    by_row = torch.arange(rows.pool, dtype=torch.int32, device=device).expand(2, -1) if resized else rows.cells
    places = by_row[:, :, None] * columns.count + columns.cells[:, None]
    return places.flatten(1).contiguous(), columns.shares.repeat(rows.pool)


class TableBias:
    """A position bias table (h, Dr, Dc) for queries on a map of ``size`` and keys on one of ``pool``.

    Args:
        sizes: the [H, W, Hp, Wp] that the table belongs to, from which it is resized; [] for those of the call.
    """

    def __init__(self, table: Tensor, sizes: Sequence[int], size: Size, pool: Size):
        self.table, self.resized = table.contiguous(), len(sizes) > 0
        height, width, pool_rows, pool_columns = sizes or (*size, *pool)
        self.rows = _axis(size[0], pool[0], height, pool_rows, table.shape[1], table.device)
        self.columns = _axis(size[1], pool[1], width, pool_columns, table.shape[2], table.device)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """What kernels take to read it."""
        rows, columns = self.rows, self.columns
        places, shares = _keys(rows, columns, self.resized, self.table.device)
        source = self._resized_rows() if self.resized else self.table
        row = rows.pool * columns.count if self.resized else rows.step * columns.count
        return dict(
            pool_bias_ptr=source, bias_keys_ptr=places, bias_shares_ptr=shares,
            bias_head=source.stride(0), bias_row=row, bias_query=columns.step, bias_key=0, bias_width=columns.size,
            bias_reference=columns.reference, BIAS_FORM="resized" if self.resized else "table",
        )  # fmt: skip

    def _resized_rows(self) -> Tensor:
        """The table at the rows of the call's queries and cells, (h, H, Hp, Dc) in float32."""
        rows, columns, heads = self.rows, self.columns, self.table.shape[0]
        out = self.table.new_empty(heads, rows.size, rows.pool, columns.count, dtype=torch.float32)
        resize_rows_kernel[(heads * rows.size * rows.pool,)](
            self.table, rows.cells, rows.shares, out, rows.size, rows.pool, columns.count, rows.step, rows.reference,
            self.table.stride(0), COLUMN_BLOCK=COLUMN_BLOCK,
        )  # fmt: skip
        return out
