"""The interpreted Triton kernels of aggregated attention in float32, compared with the float64 reference."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foveal.ops.aggregated_attention import torch_ops
from foveal.ops.aggregated_attention import triton as attention_kernels
from foveal.ops.aggregated_attention.triton import layout, table_gradients, unsupported
from foveal.ops.aggregated_attention.triton.layout import Shape
from foveal.ops.aggregated_attention.triton.position_bias import DenseBias
from support.accuracy import GRADIENT, OUTPUT, assert_within_budget, relative_error
from support.operators import RESIZED, TABLES, Call

attention = Call("aggregated_attention", batch=1, height=5, width=3, heads=1, dim=24, pool=(2, 2))
CALLS = (
    attention,
    replace(attention, height=1, width=1, pool=(1, 1)),
    replace(attention, height=1, width=7, batch=3, heads=2, dim=8, strided=2),
    replace(attention, height=7, width=1, dim=5),
    replace(attention, height=13, width=11, pool=(7, 7)),
    replace(attention, height=2, width=17, batch=2, heads=2, dim=1, pool=(1, 3)),  # two strips
    replace(attention, height=3, width=15, window=5, batch=2, pool=(7, 7), strided=2),
    replace(attention, height=2, width=5, window=7, dim=32, pool=(7, 10)),  # two blocks of pooled keys
    replace(attention, height=4, width=4, dim=40, heads=2, pool=(5, 14)),  # two blocks of 32
    replace(attention, height=2, width=9, window=9, dim=3),
    replace(attention, height=3, width=3, window=1),
    replace(attention, height=12, width=2, options=dict(length=49)),  # longer than one program covers
)
# Of some shapes only, and with the smallest window, since the interpreter is slow: `make test-gpu` runs all.
TABLE_CALLS = [
    replace(attention, window=1, heads=2, dim=5, height=h, width=w, pool=pool, table=True)
    for h, w, pool in (*TABLES[:2], *TABLES[4:8], TABLES[9])
]
RESIZED_CALLS = [
    replace(attention, window=1, dim=5, height=h, width=w, pool=pool, table=True, reference=tuple(reference))
    for (h, w), pool, *reference in (*RESIZED[:2], *RESIZED[3:8])
]
WITHOUT_WINDOW = [
    replace(attention, window=0, height=h, width=w, pool=pool, batch=2, **more)
    for h, w, pool, more in (
        (1, 1, (1, 1), dict(dim=5)),
        (5, 7, (5, 7), dict(heads=2)),
        (5, 7, (5, 7), dict(heads=2, table=True)),
        (3, 25, (3, 25), dict(strided=2, table=True)),  # two tiles of queries and three blocks of keys
        (4, 17, (2, 3), dict(table=True, options=dict(length=49))),
        (7, 10, (7, 10), dict(table=True, reference=((4, 6), (4, 6)))),
    )
]


def kernels(call: Call, tensors, grad):
    """Output and gradients by name, as returned by `Call.run_with_gradients`."""
    if not call.window:
        around = tensors["q"][:, :0]
        tensors = dict(q=tensors["q"], k=around, v=around) | tensors
    sizes = [[side for size in call.reference or () for side in size]] if call.table else []
    constants = (call.window, call.options.get("length", call.pool[0] * call.pool[1]), *sizes)
    out, lse = attention_kernels.forward(*tensors.values(), *constants)
    gradients = attention_kernels.backward(grad, *tensors.values(), lse, *constants)
    return {"output": out, **dict(zip(tensors, gradients, strict=True))}


def output_gradient(call: Call):
    """The output gradient used by `Call.run_with_gradients`."""
    shape = (call.batch, call.height, call.width, call.heads, call.dim)
    return torch.randint(-16, 17, shape, generator=torch.Generator().manual_seed(1)) / 8


def assert_kernels_equal_the_reference(call: Call, tensors):
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    actual = kernels(call, tensors, output_gradient(call))
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name, floor=1.0)
        assert relative_error(actual[name], value, 1.0) <= (OUTPUT if name == "output" else GRADIENT)
        assert (actual[name].mT if name == "pool_bias" else actual[name]).is_contiguous()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_output_and_gradients_are_within_the_error_budget(call):
    assert_kernels_equal_the_reference(call, call.tensors(torch.float32))


def test_splitting_the_work_into_many_programs_gives_the_same_result(monkeypatch):
    """On a GPU the work is split more finely: partial sums over queries and batch are added afterwards."""
    call = replace(attention, batch=3, height=10, width=9, pool=(1, 3))
    for module in (attention_kernels, layout):
        monkeypatch.setattr(module, "programs_wanted", lambda device, each: 1000)
    assert_kernels_equal_the_reference(call, call.tensors(torch.float32))


def test_the_log_sum_exp_matches_the_torch_backend():
    call = replace(attention, batch=2, heads=2)
    tensors = call.tensors(torch.float32)
    _, lse = attention_kernels.forward(*tensors.values(), 3, 4)
    _, expected = torch_ops.forward(*tensors.values(), 3, 4)
    assert lse.dtype == expected.dtype
    assert relative_error(lse, expected) <= OUTPUT


@pytest.mark.parametrize("order", ["queries", "neither"])
def test_the_position_bias_may_have_any_memory_layout(order):
    call = replace(attention, width=4, heads=2)
    tensors = call.tensors(torch.float32)
    bias = tensors["pool_bias"]
    wide = bias.new_full((2, 4, 2 * 20) if order == "neither" else (2, 4, 20), torch.nan)
    view = wide.mT[:, ::2] if order == "neither" else wide.mT
    tensors["pool_bias"] = view.copy_(bias)
    assert DenseBias(view).order == order
    assert_kernels_equal_the_reference(call, tensors)


@pytest.mark.parametrize("call", TABLE_CALLS + RESIZED_CALLS, ids=lambda call: call.id)
def test_a_table_is_read_in_place_and_gets_its_gradient(call):
    assert_kernels_equal_the_reference(call, call.tensors(torch.float32))


@pytest.mark.parametrize("call", WITHOUT_WINDOW, ids=lambda call: call.id)
def test_attention_without_a_window_is_within_the_error_budget(call):
    assert_kernels_equal_the_reference(call, call.tensors(torch.float32))


@pytest.mark.parametrize("call", [TABLE_CALLS[0], RESIZED_CALLS[0]], ids=lambda call: call.id)
@pytest.mark.parametrize("rows", [1, 3])
def test_gradients_of_a_table_are_summed_over_strips_of_any_height(rows, call, monkeypatch):
    pairs_of_a_row = call.heads * call.width * call.pool[0] * call.pool[1]
    monkeypatch.setattr(table_gradients, "PAIRS", rows * pairs_of_a_row)
    assert_kernels_equal_the_reference(call, call.tensors(torch.float32))


@pytest.mark.parametrize("reference", [None, ((4, 6), (2, 3))], ids=["table", "resized"])
def test_no_tensor_is_as_large_as_the_dense_bias(reference, monkeypatch):
    """In forward and backward, pairs of queries and keys exist for one row of queries at a time."""
    call = replace(attention, window=0, height=8, width=24, pool=(4, 12), dim=5, table=True, reference=reference)
    tensors, sizes = call.tensors(torch.float32), []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(t.nbytes for t in tree_leaves(result) if isinstance(t, torch.Tensor))
            return result

    monkeypatch.setattr(table_gradients, "PAIRS", 1)
    with Sizes():
        kernels(call, tensors, output_gradient(call))
    assert max(sizes) < torch.float32.itemsize * 8 * 24 * 4 * 12 / 4


def test_omitted_arguments_may_be_expanded_zeros():
    call = replace(attention, batch=2)
    tensors = call.tensors(torch.float32)
    for name in ("query_embedding", "local_bias", "pool_bias", "tokens", "token_bias"):
        tensors[name] = torch.zeros(()).expand(tensors[name].shape)
    assert_kernels_equal_the_reference(call, tensors)


def test_slices_of_one_layers_output_are_read_in_place():
    call = replace(attention, batch=2, heads=2, dim=8)
    tensors = call.tensors(torch.float32)
    both = torch.stack([tensors["k"], tensors["v"]], 3)
    tensors["k"], tensors["v"] = both.unbind(3)
    assert_kernels_equal_the_reference(call, tensors)


def test_values_with_a_large_mean_keep_query_gradients_accurate():
    """Delta is subtracted after the sum over keys and is relative to the mean, which avoids cancellation."""
    tensors = attention.tensors(torch.float32)
    tensors["v"] += 100
    tensors["v_pool"] += 100
    exact = attention.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    actual = kernels(attention, tensors, output_gradient(attention))
    assert relative_error(actual["q"], exact["q"]) <= GRADIENT


def test_zero_vectors_have_correct_output_and_gradients():
    tensors = attention.tensors(torch.float32)
    tensors["q"][0, 0, 0] = tensors["k"][0, 1, 1] = tensors["k_pool"][0, 0, 0] = 0
    assert_kernels_equal_the_reference(attention, tensors)


def test_large_logits_do_not_overflow():
    """With large scales one key gets all the weight: the online softmax must neither overflow nor lose it."""
    tensors = attention.tensors(torch.float32)
    tensors["scale"] *= 1000
    exact = attention.run({name: t.double() for name, t in tensors.items()}, "reference")
    out, lse = attention_kernels.forward(*tensors.values(), 3, 4)
    assert lse.isfinite().all()
    assert relative_error(out, exact) <= 100 * OUTPUT  # rounding of logits of order 1000


def test_results_are_deterministic():
    call = replace(attention, batch=2)
    tensors, grad = call.tensors(torch.float32), output_gradient(call)
    first, second = (kernels(call, tensors, grad) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_empty_batch_is_accepted():
    call = replace(attention, batch=0)
    results = kernels(call, call.tensors(torch.float32), output_gradient(call))
    assert all(value.eq(0).all() for name, value in results.items() if name != "output")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(dim=129), "heads wider than 128"),
        (dict(window=17), "windows above 15"),
        (dict(pool=(0, 1)), "no pooled key"),
    ],
)
def test_calls_too_large_for_a_tile_are_reported(change, reason):
    call = replace(attention, **change)
    assert reason in unsupported(*call.tensors(torch.float32).values(), call.window, 4)


def test_unsupported_calls_are_reported():
    tensors = attention.tensors(torch.float32)
    assert unsupported(*tensors.values(), 3, 4) is None
    assert "dropout" in unsupported(*tensors.values(), 3, 4, 0.1)
    assert "only in float32" in unsupported(*attention.tensors(torch.bfloat16).values(), 3, 4)
    assert "torch.float64" in unsupported(*{**tensors, "scale": tensors["scale"].double()}.values(), 3, 4)
    assert "several dtypes" in unsupported(*{**tensors, "k": tensors["k"].bfloat16()}.values(), 3, 4)
    assert "meta" in unsupported(*(t.to("meta") for t in tensors.values()), 3, 4)


def test_a_new_image_size_needs_no_new_kernel():
    small, large = (Shape(2, *size, heads=3, dim=24, pooled=49, window=3) for size in ((56, 56), (97, 131)))
    assert small.constants() == large.constants()
    assert small.warps(2) == large.warps(2)
