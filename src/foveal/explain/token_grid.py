"""Which pixels of an image a token or a pooled cell stands for, and weights laid back on them. NumPy only.

Patch embedding overlaps: a kernel of 7 at a stride of 4, then kernels of 3 at a stride of 2, each padded by half the
kernel. So the fields of neighbouring tokens overlap, and token i of an axis is centred on pixel ``stride * i``: its
field reaches equally far to both sides of that pixel. A token therefore stands for the pixels that are nearest to its
centre, ``stride`` of them around it. The first cell is cut in half by the border of the image, and the last one reaches
to its end. Stretching the map over the image instead would move everything by half a stride, 16 pixels in stage 4.

The cells of adaptive average pooling overlap if the pooled map does not divide the map. A pooled key is the mean of
its cell, so its weight is shared equally by the cell's tokens, and a token's weight by its pixels. All sums are kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from foveal.types import Size

if TYPE_CHECKING:
    from foveal.explain.attention import AttentionMaps


def token_edges(tokens: int, stride: int, pixels: int) -> np.ndarray:
    """Return (tokens + 1,) int64: token i of an axis stands for the pixels from edge i up to edge i + 1."""
    edges = stride * np.arange(tokens + 1) - stride // 2
    edges[0], edges[-1] = 0, pixels
    return edges


def nearest_token(pixel: float, stride: int, tokens: int) -> int:
    """Return the token of an axis that stands for a pixel; pixels outside the image get the outermost one."""
    return min(max(int(pixel + stride // 2) // stride, 0), tokens - 1)


def token_at(pixel: tuple[int, int], stride: int, size: Size) -> tuple[int, int]:
    """Return (row, column) on a token map of ``size`` of the token that stands for a pixel (row, column)."""
    row, column = (nearest_token(place, stride, tokens) for place, tokens in zip(pixel, size, strict=True))
    return row, column


def stride_of(pixels: int, cells: int) -> int:
    """Return the pixels from one cell of a map to the next, a power of two.

    Maps are rounded up to whole cells, so the stride is the least of which there are as many; of maps that were rounded
    otherwise it is the nearest.
    """
    exact = (2**power for power in range(pixels.bit_length() + 1) if -(-pixels // 2**power) == cells)
    return next(exact, 2 ** round(math.log2(pixels / cells)))


def cell_bounds(size: int, pool: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first token and end of every cell of adaptive average pooling along one axis, (pool,) int64 each."""
    cell = np.arange(pool)
    return cell * size // pool, -(-(cell + 1) * size // pool)


def share_among_tokens(weights: np.ndarray, size: Size) -> np.ndarray:
    """Share weights of pooled cells (..., Hp, Wp) equally among the tokens of each cell: (..., H, W), the same sum."""
    rows, columns = (_shares(tokens, cells) for tokens, cells in zip(size, weights.shape[-2:], strict=True))
    return rows.T @ weights @ columns


def mean_among_tokens(values: np.ndarray, size: Size) -> np.ndarray:
    """Give each token the mean of the pooled cells that contain it: (..., Hp, Wp) to (..., H, W) float64."""
    rows, columns = (_shares(tokens, cells) > 0 for tokens, cells in zip(size, values.shape[-2:], strict=True))
    rows, columns = rows / rows.sum(0), columns / columns.sum(0)
    return rows.T @ values @ columns


def _shares(size: int, pool: int) -> np.ndarray:
    """(pool, size) float64: the share of every token in every cell of one axis."""
    start, end = (bound[:, None] for bound in cell_bounds(size, pool))
    token = np.arange(size)
    return ((token >= start) & (token < end)) / (end - start)


def spread_over_pixels(weights: np.ndarray, stride: int, image_size: Size) -> np.ndarray:
    """Spread weights of tokens (..., H, W) evenly over the pixels that each stands for.

    Args:
        weights: in any unit.
        stride: pixels from one token to the next.
        image_size: (height, width) in pixels.

    Returns:
        (..., height, width) float32 of weight per pixel; the sum over the image is that over the tokens.
    """
    rows, columns = (
        np.diff(token_edges(tokens, stride, pixels))
        for tokens, pixels in zip(weights.shape[-2:], image_size, strict=True)
    )
    density = weights / (rows[:, None] * columns)
    return density.repeat(rows, axis=-2).repeat(columns, axis=-1).astype(np.float32)


def foveal_weights(maps: AttentionMaps) -> np.ndarray:
    """Return the softmax weights of the window in their places on the token map, (heads, H, W) float64."""
    half, (row, column) = maps.window // 2, maps.query
    height, width = maps.size
    placed = np.zeros((maps.heads, height + 2 * half, width + 2 * half))
    placed[:, row : row + maps.window, column : column + maps.window] = maps.window_weights
    return placed[:, half : half + height, half : half + width]


def peripheral_weights(maps: AttentionMaps) -> np.ndarray:
    """Return the softmax weights of the pooled keys, shared among their tokens, (heads, H, W) float64."""
    return share_among_tokens(maps.pooled_weights.astype(np.float64), maps.size)


def mixed_weights(maps: AttentionMaps) -> np.ndarray:
    """Return the whole attention of the query by token, (heads, H, W) float64; it sums to 1 for each head."""
    return foveal_weights(maps) + peripheral_weights(maps)


def weights_on_image(maps: AttentionMaps) -> np.ndarray:
    """Return the attention that each pixel of the image gets, (heads, height, width) float32; sums to 1 per head."""
    return spread_over_pixels(mixed_weights(maps), maps.stride, maps.image_size)
