"""Linear mode: with pools of a fixed size the cost of aggregated attention grows linearly with the number of tokens.

TransNeXt, equations 15 and 16 and appendix D.2. Counts are whole numbers, so growth is tested exactly: on images of
side 224 s, cost is a polynomial in s, in which tokens are s^2 and pairs of tokens s^4.
"""

import math

import numpy as np
import pytest
import timm
import torch

import foveal
from foveal.models.counting import Count

SIDES = range(1, 6)  # of images of 224 to 1120 pixels
CHANNELS, BLOCKS = (48, 96, 192, 384), (2, 2, 15, 2)  # of transnext_micro, table 3


def count(name: str, side: int, **settings) -> Count:
    with torch.device("meta"):
        return foveal.flops(timm.create_model(name, **settings), 224 * side)


def attention_macs(stage: int, side: int, **settings) -> int:
    """Multiply-adds of all attention layers of a stage of transnext_micro."""
    modules = count("transnext_micro", side, **settings).modules
    blocks = [f"stages.{stage}.blocks.{block}.attn" for block in range(BLOCKS[stage])]
    return sum(modules[name].macs for name in blocks)


def quartic(macs: list[int]) -> int:
    """Coefficient of s^4, from the fourth difference of five values."""
    return int(np.diff(np.array(macs, dtype=object), n=4).item()) // math.factorial(4)


def products(stage: int, keys_per_token: float) -> int:
    """s^4 times this are the multiply-adds of queries with keys and of weights with values, of all blocks: 2 C per pair
    of the 56 s / 2^stage squared tokens and their keys."""
    tokens = (56 >> stage) ** 2
    return int(BLOCKS[stage] * 2 * CHANNELS[stage] * tokens * tokens * keys_per_token)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_aggregated_attention_is_linear_in_linear_mode(stage):
    macs = [attention_macs(stage, side, pool_size=7) for side in SIDES]
    assert np.diff(macs, n=3).tolist() == [0, 0]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_aggregated_attention_is_quadratic_in_normal_mode(stage):
    """Each token has a pooled key for the sr_ratio squared tokens of a cell: 8, 4 and 2 tokens a side."""
    macs = [attention_macs(stage, side) for side in SIDES]
    assert quartic(macs) == products(stage, 1 / (8 >> stage) ** 2) > 0


@pytest.mark.parametrize("settings", [{}, {"pool_size": 7}], ids=["normal", "linear"])
def test_the_last_stage_is_quadratic_in_both_modes(settings):
    """It has no pools: all tokens attend to all (section 3.3)."""
    assert quartic([attention_macs(3, side, **settings) for side in SIDES]) == products(3, 1)


def test_with_aggregated_attention_in_all_stages_the_whole_network_is_linear():
    settings = {"token_mixers": "AAAA", "pool_size": 7, "img_size": 448}  # stage 4 must be larger than its pool
    macs = [count("transnext_micro", side, **settings).macs for side in range(2, 7)]
    assert np.diff(macs, n=3).tolist() == [0, 0]


def test_the_last_stage_is_all_that_is_quadratic_in_linear_mode():
    macs = [count("transnext_micro", side, pool_size=7).macs for side in SIDES]
    assert quartic(macs) == products(3, 1)


def test_the_whole_network_grows_nearly_like_a_convolutional_one_in_linear_mode():
    """Appendix D.2, "a computational complexity growth curve close to that of a pure convolutional network"."""

    def growth(name: str, **settings) -> float:
        """Cost at 25 times the pixels over 25 times the cost."""
        return count(name, 5, **settings).macs / (25 * count(name, 1, **settings).macs)

    assert growth("convnext_tiny") == pytest.approx(1, abs=0.001)  # all but its classifier grows with the pixels
    assert growth("transnext_tiny", pool_size=7) == pytest.approx(1, abs=0.01)
    assert growth("transnext_tiny") > 1.5
