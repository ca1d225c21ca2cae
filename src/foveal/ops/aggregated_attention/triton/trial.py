"""Small calls of aggregated attention, for the first use of its Triton kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foveal.types import Size

from ...first_use import Draw, Trial
from ..offsets import offset_count
from ..schema import TENSORS

_LENGTH = 49  # counted as pooled keys, whatever their number


def compiled_for(*call: Any) -> tuple[int, int]:
    """The head dimension and the window."""
    return call[0].shape[-1], call[len(TENSORS)]


def table_compiled_for(*call: Any) -> tuple[int, int, int]:
    """The head dimension, the window, and 1 if the table is of another map, else 0."""
    return *compiled_for(*call), int(len(call[-1]) > 0)


def trials(draw: Draw, dim: int, window: int) -> Iterator[Trial]:
    """Pooled keys of one tile and of three, next to a position bias with contiguous queries and contiguous keys; rows
    in two blocks and columns in two strips, the last of which are partial."""
    yield _trial(draw, (2, 9, 8, 2, dim), (7, 7), window, draw(2, 49, 72, spread=0.5).mT)
    yield _trial(draw, (1, 2, 17, 2, dim), (5, 14), window, draw(2, 34, 70, spread=0.5))


def table_trials(draw: Draw, dim: int, window: int, resized: int) -> Iterator[Trial]:
    """The same keys next to tables in steps of pixels and of half pixels; or of a larger and a smaller map."""
    yield _table_trial(draw, (2, 14, 7, 2, dim), (7, 7), window, [20, 6, 4, 3] if resized else [])
    yield _table_trial(draw, (1, 2, 17, 2, dim), (5, 14), window, [5, 8, 3, 4] if resized else [])


def _table_trial(draw: Draw, shape: tuple[int, ...], pool: Size, window: int, sizes: list[int]) -> Trial:
    height, width, *cells = sizes or (*shape[1:3], *pool)
    offsets = map(offset_count, (height, width), cells)
    return _trial(draw, shape, pool, window, draw(shape[3], *offsets, spread=0.5), sizes)


def _trial(draw: Draw, shape: tuple[int, ...], pool: Size, window: int, bias: Any, *sizes: list[int]) -> Trial:
    batch, height, width, heads, dim = shape
    pooled = (batch, *pool, heads, dim)
    around = (batch, height if window else 0, width, heads, dim)
    area = window**2
    tensors = (
        *(draw(*one) for one in (shape, around, around, pooled, pooled)),
        draw(heads).abs() + 1,
        draw(heads, dim, spread=0.3),
        draw(heads, area, spread=0.5),
        bias,
        draw(heads, dim, area, spread=0.3),
        draw(heads, area, spread=0.3),
    )
    terms = batch * height * width * (area + pool[0] * pool[1])
    return Trial(draw(*shape), tensors, (window, _LENGTH, *sizes), terms)
