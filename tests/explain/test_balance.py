"""The query at which every head uses both paths, against a search through the maps of single queries."""

import numpy as np
import pytest

from foveal.errors import FovealError
from foveal.explain import most_balanced, watch_attention
from support.nets import atto, image


def smaller_share(maps) -> float:
    share = maps.window_weights.sum((1, 2))
    return float(np.minimum(share, 1 - share).min())


def test_it_is_the_best_of_all_queries_of_all_blocks():
    watched = watch_attention(atto(), image(64, 96)[0])
    best = max(
        (smaller_share(watched.of(stage, block, (row, column))), stage, block, row, column)
        for stage, block in watched.blocks
        if watched.layer(stage, block).window
        for row in range(watched.layer(stage, block).size[0])
        for column in range(watched.layer(stage, block).size[1])
    )
    found = most_balanced(watched, grid=None)
    assert found.balance == pytest.approx(best[0], rel=1e-5)
    assert smaller_share(watched.of(found.stage, found.block, found.query)) == pytest.approx(best[0], rel=1e-5)


def test_a_grid_looks_at_fewer_queries():
    watched = watch_attention(atto(), image(64, 64)[0], [1])
    assert most_balanced(watched, grid=2).balance <= most_balanced(watched, grid=None).balance


def test_a_network_without_both_paths_is_refused():
    watched = watch_attention(atto(), image(64, 64)[0], [3])
    with pytest.raises(FovealError, match="has a window beside pooled keys"):
        most_balanced(watched)
