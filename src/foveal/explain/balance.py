"""The query at which every head of a TransNeXt uses both paths: what a picture of foveal and peripheral attention is
worth drawing of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveal.errors import FovealError
from foveal.explain.attention import WatchedAttention
from foveal.explain.attention_depth import grid_of_queries, in_chunks

GRID = 16  # queries per side of a map


@dataclass(frozen=True)
class BalancedQuery:
    """A block and a query of it.

    Attributes:
        stage, block: counted from 0.
        query: (row, column) on the stage's token map.
        balance: the smaller path's share of attention in the head where it is smallest, from 0 to 0.5.
    """

    stage: int
    block: int
    query: tuple[int, int]
    balance: float


@torch.no_grad()
def most_balanced(watched: WatchedAttention, grid: int | None = GRID) -> BalancedQuery:
    """Return the block and query at which the head that uses one of the paths least still uses it most.

    Args:
        watched: of ``watch_attention``.
        grid: look at a grid of at most grid x grid evenly spaced queries; None looks at every token of the map.

    Raises:
        FovealError: no block that was watched has both paths.
    """
    found = [
        _of_block(watched, stage, block, grid) for stage, block in watched.blocks if watched.layer(stage, block).window
    ]
    if not found:
        raise FovealError("No block of this TransNeXt has a window beside pooled keys: use a variant that has both.")
    return max(found, key=lambda one: one.balance)


def _of_block(watched: WatchedAttention, stage: int, block: int, grid: int | None) -> BalancedQuery:
    layer = watched.layer(stage, block)
    rows, columns = grid_of_queries(layer, grid)
    shares = [layer.weights(*part).window.sum(-1) for part in in_chunks(layer, rows, columns)]
    share = torch.cat(shares)
    balance = torch.minimum(share, 1 - share).min(dim=1).values
    best = int(balance.argmax())
    return BalancedQuery(stage, block, (int(rows[best]), int(columns[best])), float(balance[best]))
