"""Aggregated attention: border handling, one query computed by hand, and each term of the formula."""

import math
from functools import partial

import pytest
import torch

from foveal.ops import BackendError, aggregated_attention, use_backend
from support.accuracy import assert_same
from support.operators import Call

double = partial(torch.tensor, dtype=torch.float64)
both_backends = pytest.mark.parametrize("backend", ["torch", "reference"])


def zeros_and_ones(height: int, width: int, pool: tuple[int, int], heads: int = 1, dim: int = 2, window: int = 3):
    """Arguments for which every similarity is 1: all queries and keys are the same vector."""
    shape, pooled = (1, height, width, heads, dim), (1, *pool, heads, dim)
    ones = {n: torch.zeros(s, dtype=torch.float64) for n, s in dict(q=shape, k=shape, k_pool=pooled).items()}
    for t in ones.values():
        t[..., 0] = 3.0  # of any norm: it is normalised
    values = dict(v=torch.zeros(shape, dtype=torch.float64), v_pool=torch.zeros(pooled, dtype=torch.float64))
    return {**ones, **values, "scale": torch.ones(heads, dtype=torch.float64), "window": window}


@both_backends
def test_one_query_computed_by_hand(backend):
    """One pixel and one pooled key: two logits, scaled by log 2, with a softmax over both."""
    arguments = dict(
        q=[3.0, 4.0], k=[0.0, 2.0], v=[10.0, -10.0], k_pool=[5.0, 0.0], v_pool=[1.0, 2.0]
    )  # fmt: skip
    tensors = {n: double(x).reshape(1, 1, 1, 1, 2) for n, x in arguments.items()}
    with use_backend(backend):
        out = aggregated_attention(
            **tensors,
            scale=double([2.0]),
            query_embedding=double([[0.1, -0.2]]),
            local_bias=double([[0.3]]),
            pool_bias=double([[[-0.1]]]),
            tokens=double([[[0.5], [1.5]]]),
            token_bias=double([[0.25]]),
            window=1,
        )
    local = (0.8 - 0.2) * 2 * math.log(2) + 0.3  # unit(q) = (0.6, 0.8), embedded (0.7, 0.6); unit(k) = (0, 1)
    pooled = (0.6 + 0.1) * 2 * math.log(2) - 0.1
    a_local = math.exp(local) / (math.exp(local) + math.exp(pooled))
    position = 0.6 * 0.5 + 0.8 * 1.5 + 0.25
    expected = [(a_local + position) * v + (1 - a_local) * p for v, p in ((10.0, 1.0), (-10.0, 2.0))]
    assert_same(out.flatten(), double(expected), 10)


@both_backends
@pytest.mark.parametrize("window", [3, 5, 9])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4)], ids=str)
def test_keys_outside_the_map_get_no_probability(size, window, backend):
    """All similarities are equal, so the weight of the pooled keys is P over the number of valid keys."""
    height, width = size
    call = zeros_and_ones(height, width, (2, 3), window=window)
    call["v_pool"][:] = 1.0
    radius = window // 2
    with use_backend(backend):
        out = aggregated_attention(**call)
    for y in range(height):
        for x in range(width):
            rows = min(y + radius, height - 1) - max(y - radius, 0) + 1
            columns = min(x + radius, width - 1) - max(x - radius, 0) + 1
            assert_same(out[0, y, x, 0, 0], double(6 / (rows * columns + 6)), 50)


@both_backends
@pytest.mark.parametrize(("length", "counted"), [(None, 4), (49, 49), (0, 0)])
def test_queries_are_scaled_by_the_log_of_the_number_of_keys(length, counted, backend):
    """For a pooled key of the opposite direction the two logits differ by twice the scale."""
    call = zeros_and_ones(1, 2, (2, 2))
    call["k_pool"] = -call["k_pool"]
    call["v_pool"][:] = 1.0
    with use_backend(backend):
        out = aggregated_attention(**call, length=length)
    scale = math.log(2 + counted)
    share = 4 * math.exp(-scale) / (2 * math.exp(scale) + 4 * math.exp(-scale))
    assert_same(out, torch.full_like(out, share), 50)


@both_backends
def test_positional_attention_is_added_after_the_softmax(backend):
    """A constant added to the token bias adds that multiple of the window's values, whatever the probabilities are."""
    call = Call("aggregated_attention", height=4, width=3)
    tensors = call.tensors()
    before = call.run(tensors, backend)
    after = call.run({**tensors, "token_bias": tensors["token_bias"] + 2.0}, backend)
    windows = (
        torch.nn.functional.pad(tensors["v"], (0, 0, 0, 0, 1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1).sum((-2, -1))
    )
    assert_same(after - before, 2.0 * windows, call.reduction)


def test_positional_attention_uses_the_plain_query():
    """Embedding and scale do not affect the tokens: with window probabilities of 0 only the tokens contribute."""
    call = Call("aggregated_attention")
    tensors = call.tensors()
    tensors["local_bias"] = torch.full_like(tensors["local_bias"], -1e4)
    tensors["v_pool"] = torch.zeros_like(tensors["v_pool"])
    plain = call.run(tensors)
    changed = {**tensors, "scale": 2 * tensors["scale"], "query_embedding": 3 * tensors["query_embedding"]}
    assert plain.abs().max() > 0
    assert_same(call.run(changed), plain, call.reduction)


@both_backends
def test_omitted_arguments_count_as_zero(backend):
    """This is the pixel-focused attention of the paper."""
    call = Call("aggregated_attention")
    tensors = call.tensors()
    optional = ("query_embedding", "local_bias", "pool_bias", "tokens", "token_bias")
    needed = {name: t for name, t in tensors.items() if name not in optional}
    zeros = {name: torch.zeros_like(tensors[name]) for name in optional}
    assert_same(call.run(needed, backend), call.run({**needed, **zeros}, backend), call.reduction)


def test_keys_and_queries_are_normalised():
    call = Call("aggregated_attention")
    tensors = call.tensors()
    longer = {name: tensors[name] * factor for name, factor in (("q", 7.0), ("k", 0.01), ("k_pool", 100.0))}
    assert_same(call.run({**tensors, **longer}), call.run(tensors), call.reduction)


def test_dropout_runs_on_the_reference_and_keeps_the_mean():
    call = Call("aggregated_attention", batch=1, height=3, width=3, options=dict(dropout_p=0.5))
    without = Call("aggregated_attention", batch=1, height=3, width=3)
    tensors = {name: t.expand(4000, *t.shape[1:]) if t.shape[0] == 1 else t for name, t in call.tensors().items()}
    out = call.run(tensors)
    assert not torch.equal(out[0], out[1])
    error_of_mean = out.std(0).div(math.sqrt(4000))
    assert ((out.mean(0) - without.run(without.tensors())[0]).abs() < 5 * error_of_mean).all()
    with pytest.raises(BackendError, match="dropout runs only on the reference"):
        call.run(tensors, "torch")


@pytest.mark.parametrize("window", [2, 4, -1])
def test_an_invalid_window_raises_a_one_line_error(window):
    with pytest.raises(ValueError, match=f"window must be odd .* got {window}"):
        aggregated_attention(**{**zeros_and_ones(2, 2, (1, 1)), "window": window})


def test_attention_probabilities_are_not_saved_for_backward():
    """Training saves the inputs and one value per query, never the attention probabilities."""
    call = Call("aggregated_attention", height=16, width=16, dim=24, pool=(4, 4), window=9)
    leaves = {name: t.requires_grad_() for name, t in call.tensors(torch.float32).items()}
    kept = {}

    def keep(t):
        kept[t.data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        call.run(leaves, "torch")
    inputs = {t.data_ptr(): t.numel() for t in leaves.values()}
    assert sum(kept.values()) <= sum(inputs.values()) + call.batch * 16 * 16 * call.heads


@pytest.mark.parametrize("name", ["q", "k", "v", "k_pool", "v_pool", "scale"])
def test_maps_and_scale_are_required(name):
    arguments = zeros_and_ones(2, 2, (1, 1))
    with pytest.raises(ValueError, match=f"^{name} is required"):
        aggregated_attention(**{**arguments, name: None})


@pytest.mark.parametrize("name", ["q", "scale", "local_bias", "pool_bias", "pool_bias_table"])
def test_non_tensor_arguments_are_rejected(name):
    with pytest.raises(ValueError, match=f"^{name} must be a tensor, got int$"):
        aggregated_attention(**{**zeros_and_ones(2, 2, (1, 1)), name: 3})
