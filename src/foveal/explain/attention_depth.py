"""Where a whole TransNeXt looks, block by block: foveal share, entropy and mean distance of its attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.explain.attention import WatchedAttention
from foveal.explain.attention_layer import AttentionLayer, QueryWeights

_CHUNK = 1 << 22  # numbers per query-sized tensor: 16 MiB in float32


@dataclass(frozen=True)
class BlockProfile:
    """How one block attends, per head, as the mean over queries. All arrays are (heads,) float32.

    Attributes:
        stage, block: counted from 0: ``net.stages[stage].blocks[block]``.
        window: side of the window in tokens; 0 if all tokens attend to all.
        queries: number of queries of the mean.
        foveal_share: softmax weight inside the window, 0 to 1; 0 without a window.
        entropy: of the softmax weights of a query's keys, in nats.
        relative_entropy: each query's entropy over the logarithm of the number of its keys, 0 (one key) to 1 (all keys
            alike): comparable between blocks with different numbers of keys.
        distance: mean distance from the query to what it attends to, in pixels of the image, between centres of
            tokens. A pooled key is as far away as the tokens of its cell are on average.
    """

    stage: int
    block: int
    window: int
    queries: int
    foveal_share: np.ndarray
    entropy: np.ndarray
    relative_entropy: np.ndarray
    distance: np.ndarray


_MEASURES = ("foveal_share", "entropy", "relative_entropy", "distance")


def depth_profile(watched: WatchedAttention, grid: int | None = None) -> tuple[BlockProfile, ...]:
    """Return the profile of every watched block on the image, in the order of the network.

    Args:
        watched: of ``watch_attention``.
        grid: average over a grid of at most grid x grid evenly spaced queries; None takes every token of the map.

    Raises:
        FovealError: ``grid`` is below 1.
    """
    if grid is not None and grid < 1:
        raise FovealError(f"The grid of queries has {grid} a side: take at least 1, or None for every token.")
    return tuple(_profile(watched, stage, block, grid) for stage, block in watched.blocks)


def mean_profile(profiles: Sequence[tuple[BlockProfile, ...]]) -> tuple[BlockProfile, ...]:
    """Average the profiles of several images by one network, each image alike; ``queries`` adds up.

    Raises:
        FovealError: there is none, or they are not of the same blocks.
    """
    layouts = {tuple((p.stage, p.block, p.window, p.distance.shape) for p in profile) for profile in profiles}
    if len(layouts) != 1:
        raise FovealError("The profiles to average must be of the same blocks of one network, and at least one.")
    return tuple(_mean_of_block(blocks) for blocks in zip(*profiles, strict=True))


def _mean_of_block(blocks: Sequence[BlockProfile]) -> BlockProfile:
    first, queries = blocks[0], sum(b.queries for b in blocks)
    of_images = {name: np.stack([getattr(b, name) for b in blocks]).astype(np.float64) for name in _MEASURES}
    arrays = {name: values.mean(axis=0).astype(np.float32) for name, values in of_images.items()}
    return BlockProfile(first.stage, first.block, first.window, queries, **arrays)


def _profile(watched: WatchedAttention, stage: int, block: int, grid: int | None) -> BlockProfile:
    layer = watched.layer(stage, block)
    rows, columns = grid_of_queries(layer, grid)
    total = torch.zeros(len(_MEASURES), layer.heads, dtype=torch.float64)
    for row, column in in_chunks(layer, rows, columns):
        weights = layer.weights(row, column)
        total += _measures(layer, weights, row, column, watched.stride(stage)).double().sum(1).cpu()
    arrays = dict(zip(_MEASURES, (total / len(rows)).float().numpy(), strict=True))
    return BlockProfile(stage, block, layer.window, len(rows), **arrays)


def grid_of_queries(layer: AttentionLayer, grid: int | None) -> tuple[Tensor, Tensor]:
    """Return rows and columns, (N,) int64 each, of at most grid x grid evenly spaced queries; None takes all."""
    rows, columns = torch.meshgrid(*(_positions(n, grid) for n in layer.size), indexing="ij")
    return rows.flatten(), columns.flatten()


def _positions(size: int, grid: int | None) -> Tensor:
    """Return all positions of an axis, or the middles of ``grid`` equal parts of it."""
    if grid is None or grid >= size:
        return torch.arange(size)
    return (2 * torch.arange(grid) + 1) * size // (2 * grid)


def in_chunks(layer: AttentionLayer, rows: Tensor, columns: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide the queries so that no tensor of a chunk exceeds ``_CHUNK`` numbers by much."""
    (height, width), (pool_height, pool_width) = layer.size, layer.pool
    channels = layer.keys.shape[2] * layer.keys.shape[3]
    per_query = max(height * width, layer.heads * pool_height * pool_width, layer.window**2 * channels)
    count = max(_CHUNK // per_query, 1)
    return zip(rows.split(count), columns.split(count), strict=True)


def _measures(layer: AttentionLayer, weights: QueryWeights, rows: Tensor, columns: Tensor, stride: int) -> Tensor:
    """Return share, entropy, relative entropy and distance, (4, N, heads)."""
    window, pooled = weights.window, weights.pooled
    share = window.sum(-1)
    entropy = torch.special.entr(window).sum(-1) + torch.special.entr(pooled).sum(-1)
    keys = weights.inside.sum(-1) + pooled.shape[-1]
    relative = entropy / keys.to(entropy.dtype).log().clamp_min(math.log(2))[:, None]  # one key has entropy 0
    near, far = (t.to(window) for t in _distances(layer, rows, columns))
    distance = (window * near).sum(-1) + (pooled * far[:, None]).sum(-1)
    return torch.stack([share, entropy, relative, stride * distance])


def _distances(layer: AttentionLayer, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance in tokens from any query to its window, (k*k,), and from each query to the pooled cells,
    (N, Hp*Wp)."""
    offset = torch.arange(layer.window) - layer.window // 2
    near = torch.hypot(offset[:, None].float(), offset[None].float()).flatten()
    height, width = layer.size
    down, across = torch.arange(height) - rows[:, None], torch.arange(width) - columns[:, None]
    tokens = torch.hypot(down[:, :, None].float(), across[:, None, :].float())
    return near, F.adaptive_avg_pool2d(tokens, layer.pool).flatten(1)
