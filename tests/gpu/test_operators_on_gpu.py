"""Operators on a CUDA device: every dtype and shape compared with the fp64 reference. Run by `make test-gpu`."""

from dataclasses import replace

import pytest
import torch

import foveal.ops
from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call, all_calls

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("call", all_calls(), ids=lambda call: call.id)
def test_output_and_gradients_are_within_the_error_budget(call, dtype):
    tensors = call.tensors(dtype, device=DEVICE)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    actual = call.run_with_gradients(tensors)
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name, floor=1.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_double_precision_matches_the_cpu(operator):
    call = Call(operator)
    expected = call.run_with_gradients(call.tensors(), "reference")
    actual = call.run_with_gradients(call.tensors(device=DEVICE))
    for name, value in expected.items():
        assert_same(actual[name].cpu(), value, call.reduction, name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_half_activations_meet_float32_parameters_under_autocast(operator, dtype):
    call = Call(operator, dim=24)
    tensors = call.tensors(dtype, parameters=torch.float32, device=DEVICE)
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    with torch.autocast(DEVICE, dtype):
        assert_within_budget(call.run(tensors), call.run(tensors, "reference"), exact, call.reduction)


TRITON = ("aggregated_attention", "gated_dwconv", "dynamic_dwconv")


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("operator", TRITON)
def test_triton_is_the_default_backend_on_cuda(operator, dtype):
    call = Call(operator, dim=24)
    assert foveal.ops.explain(operator, **call.arguments(call.tensors(dtype, device=DEVICE))).chosen == "triton"


TABLES = [
    replace(Call("aggregated_attention", dim=24, table=True), **more)
    for more in (
        dict(pool=(3, 4)),
        dict(reference=((4, 6), (2, 3))),
        dict(window=0, pool=(5, 7)),
        dict(window=0, pool=(5, 7), reference=((4, 6), (4, 6))),
    )
]
every_table = pytest.mark.parametrize("call", TABLES, ids=lambda call: call.id)


@every_table
def test_triton_reads_tables_and_needs_no_window(call):
    assert (
        foveal.ops.explain(call.operator, **call.arguments(call.tensors(torch.bfloat16, device=DEVICE))).chosen
        == "triton"
    )


@every_table
def test_the_host_waits_for_nothing_at_a_new_size(call):
    """Kernels are compiled at the first size."""
    for size in ((5, 7), (6, 9)):
        sized = replace(call, height=size[0], width=size[1], pool=call.pool if call.window else size)
        tensors = sized.tensors(torch.bfloat16, device=DEVICE)
        leaves = {name: t.requires_grad_() for name, t in tensors.items()}
        torch.cuda.set_sync_debug_mode("error" if size == (6, 9) else "default")
        try:
            out = sized.run(leaves)
            torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("reference", [None, ((56, 56), (28, 28))], ids=["table", "resized"])
def test_a_table_takes_less_memory_than_its_dense_bias(reference):
    call = replace(TABLES[0], batch=1, height=96, width=96, pool=(48, 48), dim=8, reference=reference)
    tensors = call.tensors(torch.bfloat16, device=DEVICE)
    call.run_with_gradients(tensors)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call.run_with_gradients(tensors)
    assert torch.cuda.max_memory_allocated() - before < 4 * call.heads * 96**2 * 48**2


@every_table
def test_results_with_a_table_are_deterministic(call):
    call = replace(call, batch=4, height=21, width=19, pool=call.pool if call.window else (21, 19))
    tensors = call.tensors(torch.bfloat16, device=DEVICE)
    first, second = call.run_with_gradients(tensors), call.run_with_gradients(tensors)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("operator", OPERATORS)
def test_results_are_deterministic(operator):
    call = Call(operator, batch=4, height=21, width=19, dim=24)
    tensors = call.tensors(torch.bfloat16, device=DEVICE)
    first, second = call.run_with_gradients(tensors), call.run_with_gradients(tensors)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("operator", OPERATORS)
def test_compiles_without_graph_breaks_for_dynamic_sizes(operator):
    call = Call(operator, dim=24)
    compiled = torch.compile(lambda tensors: call.run(tensors), fullgraph=True, dynamic=True)
    for size in ((5, 7), (8, 3)):
        sized = replace(call, height=size[0], width=size[1])
        tensors = sized.tensors(torch.float32, device=DEVICE)
        assert_same(compiled(tensors), sized.run(tensors), call.reduction)


@every_table
def test_a_call_with_a_table_compiles_with_its_gradients(call):
    tensors = call.tensors(torch.float32, device=DEVICE)
    expected = call.run_with_gradients(tensors)
    actual = call.run_with_gradients(tensors, form=torch.compile(foveal.ops.aggregated_attention, fullgraph=True))
    for name, value in expected.items():
        assert_same(actual[name], value, call.reduction, name, floor=1.0)


@pytest.mark.parametrize("size", [(5, 7), (28, 28)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
def test_gelu_pool_is_within_the_error_budget(size, dtype):
    x = torch.randn(2, *size, 24, device=DEVICE).to(dtype)
    exact = foveal.ops.gelu_pool(x.double(), (3, 2))
    with foveal.ops.use_backend("reference"):
        plain = foveal.ops.gelu_pool(x, (3, 2))
    assert_within_budget(foveal.ops.gelu_pool(x, (3, 2)), plain, exact, size[0] * size[1])
