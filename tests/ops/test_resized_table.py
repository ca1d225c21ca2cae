"""A position bias table of another map, resized while attention reads it; and attention without a window."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from foveal.ops import aggregated_attention
from foveal.ops.aggregated_attention.resize import linear_taps
from foveal.ops.native import why_unavailable
from support.accuracy import assert_same
from support.operators import RESIZED, Call, offset_count

attention = Call("aggregated_attention", table=True, dim=24)
CALLS = [replace(attention, height=h, width=w, pool=pool, reference=tuple(r)) for (h, w), pool, *r in RESIZED]
compiled = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
every_backend = pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("reference", torch.float64),
        ("torch", torch.float64),
        *(pytest.param("cpu", dtype, marks=compiled) for dtype in (torch.float32, torch.bfloat16)),
    ],
    ids=["reference", "torch", "cpu, fp32", "cpu, bf16"],
)


def interpolation(size: int, reference: int) -> torch.Tensor:
    """(size, reference): weights of linear interpolation between centres, computed one by one."""
    weights = torch.zeros(size, reference, dtype=torch.float64)
    for i in range(size):
        centre = max((i + 0.5) * reference / size - 0.5, 0)
        first = min(int(centre), reference - 1)
        weights[i, first] += 1 - (centre - first)
        weights[i, min(first + 1, reference - 1)] += centre - first
    return weights


def offsets(size: int, pool: int) -> torch.Tensor:
    """(size, pool) int64: the index of the offset of every pixel and cell among all offsets of their axis."""
    cells = [range(p * size // pool, -(-(p + 1) * size // pool)) for p in range(pool)]
    found = [[pixel - sum(cell) / len(cell) for cell in cells] for pixel in range(size)]
    halves = [i / 2 for i in range(2 - 2 * size, 2 * size - 1)]
    every = sorted(set(itertools.chain(*found))) if size % pool == 0 else halves
    assert len(every) == offset_count(size, pool)
    return torch.tensor([[every.index(offset) for offset in row] for row in found])


def dense(call: Call, table: torch.Tensor) -> torch.Tensor:
    """The bias of every query and pooled key, in float64: expanded at the reference, then four small products."""
    (height, width), (rows, columns) = call.reference
    places = (offsets(height, rows)[:, None, :, None], offsets(width, columns)[None, :, None, :])
    bias = table.double()[:, places[0], places[1]]
    for axis, (size, reference) in enumerate(
        zip((call.height, call.width, *call.pool), (height, width, rows, columns), strict=True)
    ):
        bias = torch.tensordot(bias, interpolation(size, reference), ([axis + 1], [1])).movedim(-1, axis + 1)
    return bias.flatten(3, 4).flatten(1, 2)


@every_backend
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_a_table_of_another_map_is_equivalent_to_its_resized_dense_bias(call, backend, dtype):
    tensors = call.tensors(dtype, parameters=torch.promote_types(dtype, torch.float32))
    actual = call.run_with_gradients(tensors, backend)
    table = tensors["pool_bias_table"].requires_grad_()
    bias = dense(call, table)
    given = {n.removesuffix("_table"): bias.detach().to(table.dtype) if "table" in n else t for n, t in tensors.items()}
    expected = replace(call, reference=None, table=False).run_with_gradients(given, backend)
    by_pair = expected.pop("pool_bias").double()
    expected["pool_bias_table"] = torch.autograd.grad(bias, table, by_pair)[0].detach()
    for name, value in expected.items():
        assert_same(actual[name], value, call.reduction, name, floor=1.0)


def test_a_resized_bias_computed_by_hand():
    """Four pixels for two reference pixels; the shares of the second one are 0, 1/4, 3/4 and 1."""
    q = torch.zeros(1, 1, 4, 1, 1)
    k_pool, v_pool = torch.zeros(1, 1, 2, 1, 1), torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1)
    # Of offsets -1, 0, 1: reference pixel 0 has bias 4 with cell 0 and 0 with cell 1, reference pixel 1 has 6 and 4.
    table = torch.tensor([[[0.0, 4.0, 6.0]]])
    out = aggregated_attention(
        q, None, None, k_pool, v_pool, torch.ones(1), pool_bias_table=table, table_sizes=((1, 2), (1, 2)), window=0
    )
    assert_same(out.flatten(), torch.tensor([-4.0, -3.5, -2.5, -2.0]).sigmoid(), 4)


@compiled
@pytest.mark.parametrize("call", CALLS[:5], ids=lambda call: call.id)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_gradients_of_a_resized_table_are_deterministic_for_any_thread_count(call, threads):
    before = torch.get_num_threads()
    tensors = replace(call, batch=3).tensors(torch.float32)
    try:
        torch.set_num_threads(threads)
        first, again = (call.run_with_gradients(tensors, "cpu") for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(first[name], again[name]) for name in first)


@compiled
def test_the_kernels_read_only_the_elements_of_a_resized_table():
    """Memory around the table and between the elements of a view is NaN and must not be read."""
    call = CALLS[4]
    tensors = call.tensors(torch.float32)
    expected = call.run_with_gradients(tensors, "cpu")
    table = tensors["pool_bias_table"]
    wide = table.new_full((table.shape[0], table.shape[1] + 2, 2 * table.shape[2]), torch.nan)
    tensors["pool_bias_table"] = wide[:, 1:-1, ::2].copy_(table)
    actual = call.run_with_gradients(tensors, "cpu")
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


@compiled
def test_a_resized_table_saves_no_dense_bias():
    call = replace(attention, height=32, width=32, pool=(8, 8), reference=((16, 16), (4, 4)))
    leaves = {name: t.requires_grad_() for name, t in call.tensors(torch.float32).items()}
    largest = 0

    def keep(t):
        nonlocal largest
        largest = max(largest, t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        call.run(leaves)
    assert largest == leaves["q"].numel() < 32**2 * 64 * call.heads


@every_backend
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (4, 33)], ids=str)
def test_without_a_window_it_is_attention_to_the_pooled_keys(size, backend, dtype):
    call = Call("aggregated_attention", height=size[0], width=size[1], pool=size, window=0, dim=8)
    tensors = call.tensors(dtype, parameters=torch.promote_types(dtype, torch.float32))

    def attend(q, k_pool, v_pool, scale, query_embedding, pool_bias, local_bias, tokens, token_bias, **_):
        length = torch.tensor(float(size[0] * size[1]), dtype=torch.float64).log()
        q, k, v = (t.double().flatten(1, 2).transpose(1, 2) for t in (q, k_pool, v_pool))
        q = (F.normalize(q, dim=-1) + query_embedding.double()[:, None]) * scale.double()[:, None, None] * length
        y = F.scaled_dot_product_attention(q, F.normalize(k, dim=-1), v, attn_mask=pool_bias.double(), scale=1.0)
        unused = local_bias.sum() + tokens.sum() + token_bias.sum()
        return (y.transpose(1, 2).unflatten(1, size) + unused).to(dtype)

    expected, actual = call.run_with_gradients(tensors, form=attend), call.run_with_gradients(tensors, backend)
    for name, value in expected.items():
        assert_same(actual[name], value, 64 * call.reduction, name, floor=1.0)


def test_window_keys_without_a_window_are_rejected():
    tensors = Call("aggregated_attention").tensors()
    for name in ("local_bias", "tokens", "token_bias"):
        del tensors[name]
    with pytest.raises(ValueError, match="window=0 has no window keys: pass None for k and v"):
        aggregated_attention(**tensors, window=0)


def test_table_sizes_without_a_table_are_rejected():
    with pytest.raises(ValueError, match="table_sizes belongs to a pool_bias_table: pass both or neither"):
        aggregated_attention(**Call("aggregated_attention").tensors(), table_sizes=((5, 7), (2, 3)))


@pytest.mark.parametrize("sizes", [((0, 4), (1, 1)), ((4, 4), (0, 2)), ((5, 7), (2, 3)), ((6, 8), (2, 4))], ids=str)
def test_table_sizes_that_do_not_fit_the_table_are_rejected(sizes):
    tensors = CALLS[1].tensors()
    with pytest.raises(ValueError, match="table_sizes"):
        aggregated_attention(**tensors, table_sizes=sizes)


def test_interpolation_weights_are_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        first, share = linear_taps(11, 13)
    assert first.device.type == share.device.type == "cpu"
