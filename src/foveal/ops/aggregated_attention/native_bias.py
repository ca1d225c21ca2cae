"""Where the compiled kernels find the position bias of a query and a pooled key, and leave its gradient: in a dense
bias, or in a table of offsets. Either way it is a number of the query plus a number of the key (`native/native.h`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..native import tile
from .offsets import Size, axis_positions

_CPU = torch.device("cpu")


@dataclass
class Gradient:
    """Memory for the gradient of a position bias, its strides, and `total`, which makes the gradient of it."""

    numbers: Tensor
    thread: int
    head: int
    row: int
    keys: Tensor
    total: Callable[[], Tensor]


class DenseBias:
    """A bias (h, H*W, P) in float32, of any strides."""

    def __init__(self, bias: Tensor, size: Size, pool: Size):
        self.numbers = bias
        self.head, self.column, key = bias.stride()
        self.width, self.row = size[1], size[1] * self.column
        self.size = 1 + sum((n - 1) * stride for n, stride in zip(bias.shape, bias.stride(), strict=True))
        self.keys = _multiples(bias.shape[2], key)

    def gradient(self, threads: int) -> Gradient:
        """One for all threads, each of which writes its own part; queries side by side."""
        heads, queries, keys = self.numbers.shape
        numbers = torch.empty(heads, keys, queries, dtype=torch.float32, device=_CPU)
        return Gradient(numbers, 0, keys * queries, self.width, _multiples(keys, queries), lambda: numbers.mT)


class TableBias:
    """A table (h, Dr, Dc) in float32. The kernels want queries side by side, so where columns are half pixels apart,
    those of whole steps come first and the others behind them."""

    def __init__(self, table: Tensor, size: Size, pool: Size):
        heads, rows, columns = table.shape
        self.step, row_step, self.keys = _table_keys(size, pool, rows, columns)
        self.numbers = table.contiguous() if self.step == 1 else _halves_apart(table)
        self.head, self.row, self.column = rows * columns, row_step * columns, 1
        self.size = heads * rows * columns

    def gradient(self, threads: int) -> Gradient:
        """A copy for every thread, added up in their order; behind each is room for a tile."""
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
        return gradient if self.step == 1 else _halves_together(gradient)


@functools.lru_cache(maxsize=256)
def _multiples(count: int, stride: int) -> Tensor:
    return stride * torch.arange(count, device=_CPU)


@functools.lru_cache(maxsize=256)
def _table_keys(size: Size, pool: Size, rows: int, columns: int) -> tuple[int, int, Tensor]:
    """Columns from one query to the next, rows from one to the next, and the number of every pooled key."""
    pixel_row, cell_row = axis_positions(size[0], pool[0], rows, _CPU)
    pixel_column, cell_column = axis_positions(size[1], pool[1], columns, _CPU)
    row_step, step = (int(pixel[1]) if len(pixel) > 1 else 1 for pixel in (pixel_row, pixel_column))
    if step == 2:
        cell_column = cell_column // 2 + cell_column % 2 * ((columns + 1) // 2)
    return step, row_step, (cell_row[:, None] * columns + cell_column).flatten()


def _halves_apart(table: Tensor) -> Tensor:
    return torch.cat([table[..., ::2], table[..., 1::2]], -1)


def _halves_together(table: Tensor) -> Tensor:
    whole, middle = (table.shape[-1] + 1) // 2, torch.empty_like(table)
    middle[..., ::2], middle[..., 1::2] = table[..., :whole], table[..., whole:]
    return middle
