"""The position bias as the compiled CPU kernels read it: dense, a table of offsets, or a table of another map.

Dense or a table, the bias of a query and a pooled key is at an index that is a number of the query plus a number of the
key. A table of another map is resized while it is read.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.types import Size

from ..native import tile
from .offsets import axis_positions
from .resize import linear_taps

_CPU = torch.device("cpu")


class ResizedAxis(ctypes.Structure):
    """``ResizedAxis`` of native.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("reference", "pool", "step")),
        *((name, ctypes.c_void_p) for name in ("pixels", "pixel_shares", "cells", "cell_shares")),
    ]


class Resize(ctypes.Structure):
    """``Resize`` of native.h."""

    _fields_ = [("table_columns", ctypes.c_int64), ("rows", ResizedAxis), ("columns", ResizedAxis)]


@dataclass
class Gradient:
    """Memory for the gradient of a position bias, its strides, and ``total``, which returns the gradient."""

    numbers: Tensor
    thread: int
    head: int
    row: int
    keys: Tensor
    total: Callable[[], Tensor]


class DenseBias:
    """A bias (h, H*W, P) in float32, of any strides."""

    resize = Resize()

    def __init__(self, bias: Tensor, size: Size, pool: Size):
        self.numbers = bias
        self.head, self.column, key = bias.stride()
        self.width, self.row = size[1], size[1] * self.column
        self.size = 1 + sum((n - 1) * stride for n, stride in zip(bias.shape, bias.stride(), strict=True))
        self.keys = _multiples(bias.shape[2], key)

    def gradient(self, threads: int) -> Gradient:
        """Shared by all threads, each of which writes its own part; queries are contiguous."""
        heads, queries, keys = self.numbers.shape
        numbers = torch.empty(heads, keys, queries, dtype=torch.float32, device=_CPU)
        return Gradient(numbers, 0, keys * queries, self.width, _multiples(keys, queries), lambda: numbers.mT)


class TableBias:
    """A table (h, Dr, Dc) in float32 of the offsets between a map and its pooled map: those of the call, or other
    ``sizes`` ((H, W), (Hp, Wp)), from which the bias is resized.

    The kernels read queries contiguously, so if columns are half a pixel apart, the even columns come first and the odd
    ones follow.
    """

    def __init__(self, table: Tensor, size: Size, pool: Size, sizes: tuple[Size, Size] | None):
        heads, rows, columns = table.shape
        resized = sizes is not None and sizes != (size, pool)
        sizes = sizes or (size, pool)
        self.places = _places(*sizes, rows, columns)
        self.numbers = table.contiguous() if self.places.step == 1 else _halves_apart(table)
        self.head, self.row, self.column = rows * columns, self.places.row_step * columns, 1
        self.size = heads * rows * columns
        self.keys = _multiples(0, 1) if resized else _key_places(self.places)
        self._resized = _resized(size, pool, *sizes, self.places) if resized else None
        self.resize = self._resized.structure if self._resized else Resize()

    def gradient(self, threads: int) -> Gradient:
        """A copy per thread, summed in order; each is followed by room for a tile."""
        numbers = torch.zeros(threads, self.size + tile(), dtype=torch.float32, device=_CPU)
        return Gradient(
            numbers,
            numbers.shape[1],
            self.head,
            self.row,
            self.keys,
            lambda: self._whole(numbers[:, : self.size].sum(0)),
        )

    def _whole(self, gradient: Tensor) -> Tensor:
        gradient = gradient.view(self.numbers.shape)
        return gradient if self.places.step == 1 else _halves_together(gradient)


@functools.lru_cache(maxsize=256)
def _multiples(count: int, stride: int) -> Tensor:
    return stride * torch.arange(count, device=_CPU)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where a table has the bias of a pixel and a cell: at row ``row_step`` * pixel + cell_row and, as the kernels read
    it, column pixel + cell_column. ``step`` is the columns of the table as given from one pixel to the next."""

    columns: int
    step: int
    row_step: int
    cell_row: Tensor
    cell_column: Tensor


@functools.lru_cache(maxsize=256)
def _places(size: Size, pool: Size, rows: int, columns: int) -> _Places:
    pixel_row, cell_row = axis_positions(size[0], pool[0], rows, _CPU)
    pixel_column, cell_column = axis_positions(size[1], pool[1], columns, _CPU)
    row_step, step = (int(pixel[1]) if len(pixel) > 1 else 1 for pixel in (pixel_row, pixel_column))
    if step == 2:
        cell_column = cell_column // 2 + cell_column % 2 * ((columns + 1) // 2)
    return _Places(columns, step, row_step, cell_row, cell_column)


@functools.lru_cache(maxsize=256)
def _key_places(places: _Places) -> Tensor:
    """(P,): the index of every pooled key for the first query."""
    return (places.cell_row[:, None] * places.columns + places.cell_column).flatten()


class _Resized:
    """The structure that describes a resized table, and the memory that it points to."""

    def __init__(self, size: Size, pool: Size, reference: Size, reference_pool: Size, places: _Places):
        self.kept: list[Tensor] = []
        rows = self._axis(size[0], pool[0], reference[0], reference_pool[0], places.row_step, places.cell_row)
        columns = self._axis(size[1], pool[1], reference[1], reference_pool[1], 1, places.cell_column)
        self.structure = Resize(places.columns, rows, columns)

    def _axis(self, size: int, pool: int, reference: int, cells: int, step: int, places: Tensor) -> ResizedAxis:
        pixels, pixel_shares = linear_taps(size, reference)
        first, cell_shares = linear_taps(pool, cells)
        both = torch.stack([first, (first + 1).clamp(max=cells - 1)])
        memory = [pixels, pixel_shares.float(), places[both], cell_shares.float()]
        self.kept += memory
        return ResizedAxis(reference, pool, step, *(t.data_ptr() for t in memory))


_resized = functools.lru_cache(maxsize=256)(_Resized)


def _halves_apart(table: Tensor) -> Tensor:
    return torch.cat([table[..., ::2], table[..., 1::2]], -1)


def _halves_together(table: Tensor) -> Tensor:
    whole, middle = (table.shape[-1] + 1) // 2, torch.empty_like(table)
    middle[..., ::2], middle[..., 1::2] = table[..., :whole], table[..., whole:]
    return middle
