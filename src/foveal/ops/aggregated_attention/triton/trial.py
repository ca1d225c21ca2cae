"""Small calls of aggregated attention, for the first use of its Triton kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foveal.types import Size

from ...first_use import Draw, Trial
from ..schema import TENSORS

_LENGTH = 49  # counted as pooled keys, whatever their number


def compiled_for(*call: Any) -> tuple[int, int]:
    """The head dimension and the window."""
    return call[0].shape[-1], call[len(TENSORS)]


def trials(draw: Draw, dim: int, window: int) -> Iterator[Trial]:
    """Pooled keys of one tile and of three, next to a position bias with contiguous queries and contiguous keys; rows
    in two blocks and columns in two strips, the last of which are partial."""
    yield _trial(draw, (2, 9, 8, 2, dim), (7, 7), window, transposed=True)
    yield _trial(draw, (1, 2, 17, 2, dim), (5, 14), window, transposed=False)


def _trial(draw: Draw, shape: tuple[int, ...], pool: Size, window: int, transposed: bool) -> Trial:
    batch, height, width, heads, dim = shape
    pooled = (batch, *pool, heads, dim)
    queries, keys, area = height * width, pool[0] * pool[1], window**2
    tensors = (
        *(draw(*one) for one in (shape, shape, shape, pooled, pooled)),
        draw(heads).abs() + 1,
        draw(heads, dim, spread=0.3),
        draw(heads, area, spread=0.5),
        draw(heads, keys, queries, spread=0.5).mT if transposed else draw(heads, queries, keys, spread=0.5),
        draw(heads, dim, area, spread=0.3),
        draw(heads, area, spread=0.3),
    )
    return Trial(draw(*shape), tensors, (window, _LENGTH), batch * queries * (area + keys))
