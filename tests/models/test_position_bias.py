"""TransNeXt's position bias compared with the formula, pair by pair, and its interpolation with a direct resize."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal.models.position_bias import continuous_position_bias
from support import plain_transnext
from support.accuracy import assert_same
from support.nets import atto, image

HIDDEN = 512


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Linear(2, HIDDEN).double(), nn.Linear(HIDDEN, 3).double()


def pair_by_pair(fc1, fc2, size, pool, sides):
    """math.md, "Log-spaced continuous position bias", one query and one key at a time."""
    weights = [t.detach().numpy() for t in (fc1.weight, fc1.bias, fc2.weight, fc2.bias)]
    out = torch.zeros(weights[2].shape[0], size[0] * size[1], pool[0] * pool[1], dtype=torch.float64)
    for (i, query), (p, cell) in itertools.product(
        enumerate(itertools.product(range(size[0]), range(size[1]))),
        enumerate(itertools.product(range(pool[0]), range(pool[1]))),
    ):
        offset = []
        for axis in (0, 1):
            first = cell[axis] * size[axis] // pool[axis]  # adaptive pooling: floor of the start, ceiling of the end
            last = math.ceil((cell[axis] + 1) * size[axis] / pool[axis]) - 1
            x = (query[axis] - (first + last) / 2) / (sides[axis] - 1) * 8
            offset.append(math.copysign(math.log2(abs(x) + 1) / math.log2(8), x))
        hidden = (weights[0] @ offset + weights[1]).clip(min=0)
        out[:, i, p] = torch.from_numpy(weights[2] @ hidden + weights[3])
    return out


CASES = {
    "divisible": ((8, 8), (2, 2), (7, 7)),
    "pre-training size": ((7, 7), (7, 7), (7, 7)),
    "one cell": ((5, 6), (1, 1), (7, 7)),
    "rectangular": ((4, 12), (2, 3), (14, 14)),
    "not divisible": ((7, 5), (3, 2), (7, 7)),
    "prime by prime": ((11, 7), (5, 3), (28, 28)),
    "one axis divisible": ((8, 7), (4, 3), (14, 14)),
    "one row": ((1, 9), (1, 4), (7, 7)),
    "one pixel": ((1, 1), (1, 1), (7, 7)),
    "rectangular pre-training": ((6, 6), (3, 3), (14, 7)),
    "overlapping cells": ((5, 5), (4, 4), (7, 7)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bias_equals_the_formula_pair_by_pair(case, network):
    size, pool, sides = CASES[case]
    with torch.no_grad():
        actual = continuous_position_bias(*network, size, pool, sides)
    assert_same(actual, pair_by_pair(*network, size, pool, sides), reduction=HIDDEN)


@pytest.mark.parametrize("case", ["rectangular", "overlapping cells"])
def test_gradients_equal_those_of_the_formula(case, network):
    size, pool, sides = CASES[case]
    state = {f"cpb_fc{i}.{n}": p for i, fc in enumerate(network, 1) for n, p in fc.named_parameters()}
    weighting = torch.randn(3, size[0] * size[1], pool[0] * pool[1], dtype=torch.float64)
    forms = (
        continuous_position_bias(*network, size, pool, sides),
        plain_transnext.position_bias(state, size, pool, sides),
    )
    expected, actual = (torch.autograd.grad((form * weighting).sum(), list(state.values())) for form in reversed(forms))
    for name, a, b in zip(state, actual, expected, strict=True):
        assert_same(a, b, reduction=HIDDEN * weighting.numel(), what=name)


@pytest.mark.parametrize("size", [(56, 56), (200, 8), (37, 91)], ids=str)
def test_large_maps_computed_in_chunks_give_the_same_bias(size, network, monkeypatch):
    """Without gradients the hidden layer is computed in chunks; with gradients all at once."""
    from foveal.models import position_bias

    monkeypatch.setattr(position_bias, "_HIDDEN_BUDGET", 10_000)
    whole = continuous_position_bias(*network, size, (3, 2), (56, 56))
    with torch.no_grad():
        parts = continuous_position_bias(*network, size, (3, 2), (56, 56))
    assert_same(parts, whole.detach(), reduction=HIDDEN)


def test_half_precision_weights_are_computed_in_float32(network):
    """The bias of bf16 weights equals that of the same values in fp64, rounded once."""
    half = [fc.to(torch.bfloat16) for fc in network]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        actual = continuous_position_bias(*half, (6, 7), (2, 3), (7, 7))
    double = [fc.double() for fc in half]
    assert actual.dtype is torch.bfloat16
    exact = pair_by_pair(*double, (6, 7), (2, 3), (7, 7))
    assert_same(actual, exact.to(torch.bfloat16), reduction=HIDDEN)


@torch.no_grad()
def test_autocast_does_not_change_the_bias(network):
    single = [fc.float() for fc in network]
    expected = continuous_position_bias(*single, (6, 7), (2, 3), (7, 7))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(continuous_position_bias(*single, (6, 7), (2, 3), (7, 7)), expected)


def bias_of(net, stage, size):
    with torch.no_grad():
        return net.stages[stage].blocks[0].attn.position_bias(*size)


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (5, 3), (4, 4)], ids=str)
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_interpolation_resizes_keys_then_queries(stage, size):
    """For each query the keys form an image; then for each key the queries form an image."""
    net = atto(position_bias="interpolate", img_size=128).double()
    reference = 32 // 2**stage
    pool_of = (lambda s: s) if stage == 3 else (lambda s: max(s // (8, 4, 2)[stage], 1))
    extrapolated = bias_of(atto(img_size=128).double(), stage, (reference, reference))
    keys = (pool_of(size[0]), pool_of(size[1]))
    heads, old = extrapolated.shape[0], pool_of(reference)
    by_query = torch.stack(
        [
            F.interpolate(
                extrapolated[:, i].reshape(heads, 1, old, old), keys, mode="bilinear", align_corners=False
            ).flatten(1)
            for i in range(reference**2)
        ],
        1,
    )
    expected = torch.stack(
        [
            F.interpolate(by_query[:, :, p].reshape(heads, 1, reference, reference), size, mode="bilinear").flatten(1)
            for p in range(keys[0] * keys[1])
        ],
        2,
    )
    assert_same(bias_of(net, stage, size), expected, reduction=HIDDEN)


def test_interpolation_at_the_reference_size_is_the_identity():
    nets = [atto(img_size=(96, 64), position_bias=mode) for mode in ("interpolate", "extrapolate")]
    with torch.no_grad():
        assert_same(nets[0](image(96, 64)), nets[1](image(96, 64)), reduction=10_000)


def test_the_pretraining_size_sets_the_scale():
    """It stays the same when fine-tuning at another image size and is independent of the reference size."""
    net = atto(img_size=128)
    small = bias_of(net, 0, (16, 16))
    net.set_input_size(img_size=256)
    assert torch.equal(bias_of(net, 0, (16, 16)), small)
    net.set_input_size(pretrain_size=128)
    assert not torch.equal(bias_of(net, 0, (16, 16)), small)
