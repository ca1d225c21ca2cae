"""The position bias as a table of offsets: its meaning in every implementation, forward and backward."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from foveal.ops import aggregated_attention, explain, use_backend
from foveal.ops.native import why_unavailable
from support.accuracy import assert_same, assert_within_budget, relative_error, rounding
from support.operators import TABLES, Call, offset_count

attention = Call("aggregated_attention", table=True, dim=24)
CALLS = [replace(attention, height=h, width=w, pool=pool) for h, w, pool in TABLES]
compiled = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
every_backend = pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("reference", torch.float64),
        ("torch", torch.float64),
        *(pytest.param("cpu", dtype, marks=compiled) for dtype in (torch.float32, torch.bfloat16)),
    ],
    ids=["reference", "torch", "cpu, fp32", "cpu, bf16"],
)


@pytest.fixture(autouse=True)
def threads_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def axis_numbers(size: int, pool: int, count: int) -> list[list[int]]:
    """[pixel][cell]: index, among `count` ascending offsets, of the pixel's offset from the centre of the cell."""
    cells = [range(p * size // pool, math.ceil((p + 1) * size / pool)) for p in range(pool)]
    offsets = [[pixel - sum(cell) / len(cell) for cell in cells] for pixel in range(size)]
    if count == 4 * size - 3:
        every = [i / 2 for i in range(2 - 2 * size, 2 * size - 1)]
    else:
        every = sorted(set(itertools.chain(*offsets)))
    assert len(every) == count
    return [[every.index(offset) for offset in row] for row in offsets]


def places(call: Call, table: torch.Tensor) -> torch.Tensor:
    """(H*W, P): index into the flattened table for every query and pooled key."""
    rows = axis_numbers(call.height, call.pool[0], table.shape[1])
    columns = axis_numbers(call.width, call.pool[1], table.shape[2])
    queries = itertools.product(range(call.height), range(call.width))
    cells = list(itertools.product(*map(range, call.pool)))
    return torch.tensor([[rows[y][p] * table.shape[2] + columns[x][c] for p, c in cells] for y, x in queries])


def with_half_pixels(call: Call, tensors):
    """The same call with a table in steps of half a pixel, even if the pool size divides the map size."""
    shape = (call.heads, 4 * call.height - 3, 4 * call.width - 3)
    return {**tensors, "pool_bias_table": torch.randn(shape).to(tensors["pool_bias_table"])}


@every_backend
@pytest.mark.parametrize("halves", [False, True], ids=["default steps", "half pixels"])
@every_call
def test_the_table_is_equivalent_to_the_dense_bias(call, halves, backend, dtype):
    tensors = call.tensors(dtype, parameters=torch.promote_types(dtype, torch.float32))
    tensors = with_half_pixels(call, tensors) if halves else tensors
    table = tensors["pool_bias_table"]
    where = places(call, table)
    # At the same position, so that gradients come in the same order.
    dense = {n.removesuffix("_table"): table.flatten(1)[:, where] if "table" in n else t for n, t in tensors.items()}
    actual, expected = call.run_with_gradients(tensors, backend), call.run_with_gradients(dense, backend)
    by_pair = expected.pop("pool_bias")
    gathered = torch.zeros_like(table).flatten(1).index_add(1, where.flatten(), by_pair.flatten(1))
    expected["pool_bias_table"] = gathered.view_as(table)
    for name, value in expected.items():
        assert_same(actual[name], value, call.reduction, name, floor=1.0)


@every_call
def test_the_number_of_offsets_matches_the_documentation(call):
    table = call.tensors()["pool_bias_table"]
    assert tuple(table.shape[1:]) == tuple(map(offset_count, (call.height, call.width), call.pool))
    assert places(call, table).max() < table[0].numel()


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("pool", [(1, 2), (2, 3)], ids=["pixels", "half pixels"])
def test_the_table_gradient_equals_numerical_derivatives(pool, backend):
    call = replace(attention, batch=1, height=3, width=4, dim=2, heads=1, pool=pool)
    tensors = call.tensors()
    table = tensors.pop("pool_bias_table").requires_grad_()
    assert torch.autograd.gradcheck(lambda t: call.run({**tensors, "pool_bias_table": t}, backend), table)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("backend", [None, "torch", "reference"])
def test_the_gradient_of_a_half_precision_table_is_summed_in_float32(backend, dtype):
    call = replace(attention, batch=1, height=32, width=32, pool=(8, 8), dim=5)
    tensors = call.tensors(dtype)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    found = call.run_with_gradients(tensors, backend)["pool_bias_table"]
    assert found.dtype is dtype
    one_rounding = torch.finfo(dtype).eps / 2 + rounding(torch.float32, call.reduction)
    assert relative_error(found, exact["pool_bias_table"]) <= one_rounding


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [(9, 21, (3, 4)), (16, 16, (2, 2))], ids=str)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_kernel_gradients_are_deterministic_and_accurate_for_any_thread_count(threads, size, dtype):
    call = replace(attention, batch=3, height=size[0], width=size[1], pool=size[2], heads=3)
    tensors = call.tensors(dtype)
    torch.set_num_threads(threads)
    first, again = (call.run_with_gradients(tensors, "cpu") for _ in range(2))
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    for name, value in exact.items():
        assert torch.equal(first[name], again[name]), f"{name} differs from run to run"
        assert_within_budget(first[name], plain[name], value, call.reduction, name)


@compiled
def test_the_kernels_read_only_the_elements_of_the_table():
    """Memory beyond the edge of the map and between the elements of a view is NaN and must not be read."""
    call = replace(attention, height=4, width=40, pool=(2, 5))
    tensors = call.tensors(torch.float32)
    expected = call.run_with_gradients(tensors, "cpu")
    table = tensors["pool_bias_table"]
    wide = table.new_full((table.shape[0], table.shape[1] + 2, 2 * table.shape[2]), torch.nan)
    tensors["pool_bias_table"] = wide[:, 1:-1, ::2].copy_(table)
    actual = call.run_with_gradients(tensors, "cpu")
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_registration_passes_opcheck(dtype):
    tensors = replace(attention, batch=1, height=3, width=4, pool=(2, 2)).tensors(dtype)
    arguments = [t.requires_grad_() for t in tensors.values()]
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    operator = torch.ops.foveal.aggregated_attention_table.default
    torch.library.opcheck(operator, (*arguments, 3, 4, [], "cpu"), test_utils=checks)


@compiled
def test_the_kernels_run_without_creating_a_dense_bias():
    call = replace(attention, height=32, width=32, pool=(8, 8))
    tensors = call.tensors(torch.float32)
    assert explain("aggregated_attention", **call.arguments(tensors)).chosen == "cpu"
    leaves = {name: t.requires_grad_() for name, t in tensors.items()}
    largest = 0

    def keep(t):
        nonlocal largest
        largest = max(largest, t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        call.run(leaves)
    assert largest == tensors["q"].numel() < 32**2 * 64 * call.heads


@pytest.mark.parametrize("pools", [((2, 3), (2, 3)), ((4, 3), (2, 7))], ids=["as traced", "other steps"])
@pytest.mark.parametrize("backend", ["torch", pytest.param("cpu", marks=compiled)])
def test_compiles_without_graph_breaks_for_dynamic_sizes(backend, pools):
    graph = torch.compile(
        lambda tensors: attention.run(tensors, backend), fullgraph=True, backend="aot_eager", dynamic=True
    )
    for (height, width), pool in zip(((5, 7), (8, 14)), pools, strict=True):
        call = replace(attention, height=height, width=width, pool=pool)
        tensors = call.tensors(torch.float32)
        assert_same(graph(tensors), call.run(tensors, backend), call.reduction)


def test_function_transforms_are_supported():
    tensors = attention.tensors()
    expected = attention.run_with_gradients(tensors, "reference")["pool_bias_table"]
    table = tensors.pop("pool_bias_table")
    out = attention.run({**tensors, "pool_bias_table": table})
    generator = torch.Generator().manual_seed(1)
    weighting = (torch.randint(-16, 17, out.shape, generator=generator) / 8).double()
    gradient = torch.func.grad(lambda t: (attention.run({**tensors, "pool_bias_table": t}) * weighting).sum())(table)
    assert_same(gradient, expected, attention.reduction)


def test_a_dense_bias_together_with_a_table_is_rejected():
    call = Call("aggregated_attention")
    table = replace(call, table=True).tensors()["pool_bias_table"]
    with pytest.raises(ValueError, match="pass pool_bias or pool_bias_table, not both"):
        aggregated_attention(**call.tensors(), pool_bias_table=table)


@pytest.mark.parametrize("shape", [(2, 17, 13), (2, 16, 25), (3, 17, 25), (17, 25)], ids=str)
def test_a_wrong_table_shape_raises_an_error_with_the_expected_shape(shape):
    tensors = {**attention.tensors(), "pool_bias_table": torch.zeros(shape, dtype=torch.float64)}
    with (
        pytest.raises(ValueError, match=r"pool_bias_table must have shape \(2, 17, 25\) .*got \(") as error,
        use_backend(None),
    ):
        attention.run(tensors)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pool", [(0, 3), (2, 0)], ids=str)
def test_without_pooled_keys_only_a_half_pixel_table_is_accepted_and_ignored(pool):
    tensors = replace(attention, pool=pool, table=False).tensors()
    expected = attention.run(tensors)
    del tensors["pool_bias"]
    table = torch.randn(2, 17, 25, dtype=torch.float64)
    assert torch.equal(attention.run({**tensors, "pool_bias_table": table}), expected)
    with pytest.raises(ValueError, match=r"pool_bias_table must have shape \(2, 17, 25\) .*got \(2, 3, 3\)"):
        attention.run({**tensors, "pool_bias_table": table[:, :3, :3]})
