"""Cells by hand, and by what PyTorch computes: the receptive field of a token, and adaptive average pooling."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

import foveal  # noqa: F401  (registers the models)
from foveal.explain.attention import AttentionMaps
from foveal.explain.token_grid import (
    cell_bounds,
    foveal_weights,
    mixed_weights,
    nearest_token,
    share_among_tokens,
    spread_over_pixels,
    stride_of,
    token_edges,
    weights_on_image,
)


def maps(query=(0, 2), size=(3, 5), pool=(2, 2), window=3, stride=4, image_size=(11, 20)) -> AttentionMaps:
    """One head with random weights; the pooling of 3 rows and 5 columns to 2 x 2 cells is uneven on both axes."""
    draw = np.random.default_rng(0)
    weights = draw.random(window * window + pool[0] * pool[1])
    local, pooled = weights[: window * window].reshape(1, window, window), weights[window * window :].reshape(1, *pool)
    for j in np.ndindex(window, window):
        at = query[0] + j[0] - window // 2, query[1] + j[1] - window // 2
        if not (0 <= at[0] < size[0] and 0 <= at[1] < size[1]):
            local[0][j] = 0
    total = local.sum() + pooled.sum()
    local, pooled = (local / total).astype(np.float32), (pooled / total).astype(np.float32)
    fine = np.zeros((1, *size), np.float32)
    return AttentionMaps(query, fine, np.zeros_like(pooled), local, pooled, 0 * local, 0, 0, stride, image_size)


def test_a_token_stands_for_the_pixels_nearest_to_its_centre():
    """Stride 4: centres at pixels 0, 4 and 8; the first cell is cut by the border, the last reaches to the end."""
    np.testing.assert_array_equal(token_edges(3, 4, 12), [0, 2, 6, 12])
    np.testing.assert_array_equal(token_edges(3, 4, 9), [0, 2, 6, 9])
    np.testing.assert_array_equal(token_edges(1, 32, 32), [0, 32])
    assert [nearest_token(pixel, 4, 3) for pixel in range(-1, 13)] == [0] * 3 + [1] * 4 + [2] * 7


@pytest.mark.parametrize("stage", range(4))
def test_the_receptive_field_of_a_token_is_centred_on_its_cell(stage):
    """The pixels that the patch embeddings read for one token reach equally far to both sides of ``stride * i``."""
    net = timm.create_model("transnext_atto", num_classes=0).double()
    x = torch.randn(1, 3, 320, 320, dtype=torch.float64, requires_grad=True)
    y = x
    for i in range(stage + 1):
        y = net.stages[i].embed(y)
    token = y.shape[2] // 2
    y[0, 0, token, token].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    stride = 4 * 2**stage
    centre = (rows.min() + rows.max()) / 2
    edges = token_edges(y.shape[2], stride, 320)
    assert centre == stride * token == (edges[token] + edges[token + 1]) / 2


@pytest.mark.parametrize(("size", "pool"), [(7, 3), (8, 4), (5, 4), (3, 3), (14, 1)])
def test_cells_are_those_of_adaptive_average_pooling(size, pool):
    start, end = cell_bounds(size, pool)
    expected = F.adaptive_avg_pool1d(torch.eye(size)[:, None], pool)[:, 0].T  # (pool, size): the share of each token
    for cell in range(pool):
        row = np.zeros(size)
        row[start[cell] : end[cell]] = 1 / (end[cell] - start[cell])
        np.testing.assert_allclose(row, expected[cell], rtol=1e-6)


def test_uneven_pooling_shares_a_weight_among_overlapping_cells():
    """Three tokens pooled to two cells: tokens 0-1 and 1-2, so the middle one gets half of each cell."""
    shared = share_among_tokens(np.array([[0.2], [0.6]]), (3, 2))
    np.testing.assert_allclose(shared, [[0.05, 0.05], [0.2, 0.2], [0.15, 0.15]])


def test_a_weight_is_spread_evenly_over_the_pixels_of_its_token():
    """Two tokens at stride 4 in 7 pixels: 2 rows and 5 rows; one column of 3 pixels."""
    image = spread_over_pixels(np.array([[0.6], [3.0]]), 4, (7, 3))
    np.testing.assert_allclose(image, np.repeat([0.1] * 2 + [0.2] * 5, 3).reshape(7, 3), rtol=1e-6)


def test_the_window_lies_around_its_query_and_is_cut_by_the_border():
    placed = foveal_weights(maps())[0]
    expected = np.zeros((3, 5))
    expected[0:2, 1:4] = maps().window_weights[0, 1:]
    np.testing.assert_array_equal(placed, expected)


def test_mixed_weights_equal_a_hand_count():
    """Cells of 3 x 5 tokens in 2 x 2: rows 0-1 and 1-2, columns 0-2 and 2-4, 6 tokens each."""
    example = maps()
    expected = np.zeros((3, 5))
    for (i, j), weight in np.ndenumerate(example.pooled_weights[0].astype(float)):
        expected[i : i + 2, 2 * j : 2 * j + 3] += weight / 6
    for (i, j), weight in np.ndenumerate(example.window_weights[0].astype(float)):
        if i - 1 >= 0:
            expected[i - 1, 2 + j - 1] += weight
    np.testing.assert_allclose(mixed_weights(example)[0], expected, rtol=1e-7)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"query": (2, 4)},
        {"size": (7, 9), "pool": (3, 4), "window": 5, "image_size": (25, 33)},
        {"query": (0, 0), "size": (1, 1), "pool": (1, 1), "stride": 32, "image_size": (32, 32)},
        {"window": 0, "size": (4, 4), "pool": (4, 4), "image_size": (16, 16)},
    ],
)
def test_the_weights_on_the_image_sum_to_one(case):
    example = maps(**case)
    image = weights_on_image(example)
    assert image.shape == (1, *example.image_size)
    assert image.dtype == np.float32
    assert image.astype(float).sum() == pytest.approx(1, abs=1e-6)


def test_each_pixel_gets_the_weight_of_its_token_over_the_size_of_its_cell():
    """Rows 0-1, 2-5, 6-10 and columns 0-1, 2-5, 6-9, 10-13, 14-19 at stride 4 in 11 x 20 pixels."""
    example = maps()
    tokens, image = mixed_weights(example)[0], weights_on_image(example)[0]
    assert image[0, 0] == pytest.approx(tokens[0, 0] / (2 * 2))
    assert image[5, 7] == pytest.approx(tokens[1, 2] / (4 * 4))
    assert image[10, 19] == pytest.approx(tokens[2, 4] / (5 * 6))


@pytest.mark.parametrize("side", range(32, 100))
@pytest.mark.parametrize("stage", range(4))
def test_the_stride_of_a_map_is_found_from_its_size(side, stage):
    """Strides of 4, 8, 16 and 32 with maps rounded up, as in both families."""
    cells = side
    for factor in (4, 2, 2, 2)[: stage + 1]:
        cells = -(-cells // factor)
    assert stride_of(side, cells) == 4 * 2**stage


@pytest.mark.parametrize(("pixels", "cells"), [(230, 57), (227, 56), (100, 25)])
def test_the_stride_of_a_map_that_was_rounded_down_is_the_nearest(pixels, cells):
    assert stride_of(pixels, cells) == 4
