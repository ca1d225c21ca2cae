"""Profiles by depth against a count over every query and key."""

import math

import numpy as np
import pytest
import timm
import torch

import foveal  # noqa: F401  (registers the models)
from foveal.errors import FovealError
from foveal.explain import depth_profile, mean_profile, watch_attention
from foveal.explain.token_grid import mixed_weights


def make_net(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    net = timm.create_model("transnext_atto", num_classes=0, **options).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".attn." in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def image(height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def count_by_hand(watched, stage: int, block: int, queries: list[tuple[int, int]]) -> np.ndarray:
    """(4, heads): share, entropy, relative entropy and distance, from the maps of one query after another."""
    totals = 0
    for query in queries:
        maps = watched.of(stage, block, query)
        height, width = maps.size
        weights = np.concatenate(
            [maps.window_weights.reshape(maps.heads, -1), maps.pooled_weights.reshape(maps.heads, -1)], 1
        )
        weights = weights.astype(float)
        half = maps.window // 2
        inside = sum(
            0 <= query[0] + i < height and 0 <= query[1] + j < width
            for i in range(-half, half + 1) for j in range(-half, half + 1) if maps.window
        )  # fmt: skip
        keys = inside + maps.pooled_weights[0].size
        logs = np.log(np.where(weights > 0, weights, 1))
        entropy = -(weights * logs).sum(1)
        away = [[math.dist(query, (r, c)) * maps.stride for c in range(width)] for r in range(height)]
        distance = (mixed_weights(maps) * np.array(away)).sum((1, 2))
        relative = entropy / math.log(keys) if keys > 1 else 0 * entropy
        totals = totals + np.array([maps.foveal_share, entropy, relative, distance])
    return totals / len(queries)


@pytest.mark.parametrize(
    ("size", "grid", "options"),
    [
        pytest.param((96, 64), None, {}, id="every query"),
        pytest.param((101, 75), None, {"window_size": 5}, id="uneven pooling, window 5"),
        pytest.param((160, 96), 2, {"pool_size": 3}, id="a grid, linear mode"),
        pytest.param((32, 32), None, {}, id="one token in the last stage"),
    ],
)
def test_the_profile_equals_a_count_query_by_query(size, grid, options, monkeypatch):
    monkeypatch.setattr("foveal.explain.attention_depth._CHUNK", 4000)  # several chunks
    watched = watch_attention(make_net(**options), image(*size))
    profile = depth_profile(watched, grid)
    assert [(p.stage, p.block) for p in profile] == list(watched.blocks)
    for p in profile:
        height, width = watched.of(p.stage, p.block).size
        rows, columns = ([*range(n)] if grid is None or n <= grid else middles(n, grid) for n in (height, width))
        queries = [(r, c) for r in rows for c in columns]
        assert p.queries == len(queries)
        expected = count_by_hand(watched, p.stage, p.block, queries)
        measured = np.array([p.foveal_share, p.entropy, p.relative_entropy, p.distance])
        assert measured.dtype == np.float32
        np.testing.assert_allclose(measured, expected, rtol=2e-5, atol=1e-6)


def middles(size: int, parts: int) -> list[int]:
    return [math.floor((i + 0.5) * size / parts) for i in range(parts)]


def test_alike_keys_have_full_entropy_and_the_share_of_the_window():
    """Zero temperatures and biases make all keys alike: an inner query of stage 3 has 9 window keys and 6 pooled."""
    net = make_net(img_size=96)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "temperature" in name:
                parameter.fill_(-1e3)
            if "relative_pos_bias_local" in name or "cpb_fc2" in name:
                parameter.zero_()
    (block, *_) = depth_profile(watch_attention(net, image(96, 64), [2]), grid=1)
    np.testing.assert_allclose(block.foveal_share, 9 / 15, rtol=1e-6)
    np.testing.assert_allclose(block.entropy, math.log(15), rtol=1e-6)
    np.testing.assert_allclose(block.relative_entropy, 1, rtol=1e-6)


def test_profiles_of_several_images_are_averaged_image_by_image():
    net = make_net()
    profiles = [depth_profile(watch_attention(net, image(64, 64, seed)), grid=2) for seed in (1, 2, 3)]
    mean = mean_profile(profiles)
    assert len(mean) == len(profiles[0])
    for i, block in enumerate(mean):
        assert block.queries == sum(p[i].queries for p in profiles)
        expected = sum(p[i].entropy.astype(float) for p in profiles) / 3
        np.testing.assert_allclose(block.entropy, expected, rtol=1e-6)


def test_what_cannot_be_averaged_is_refused():
    net = make_net()
    with pytest.raises(FovealError, match="at least one"):
        mean_profile([])
    parts = [depth_profile(watch_attention(net, image(64, 64), stages), grid=1) for stages in ([0], [1])]
    with pytest.raises(FovealError, match="same blocks"):
        mean_profile(parts)
    with pytest.raises(FovealError, match="at least 1"):
        depth_profile(watch_attention(net, image(64, 64), [0]), grid=0)
