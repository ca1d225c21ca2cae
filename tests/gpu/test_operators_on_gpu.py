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


@pytest.mark.parametrize("size", [(5, 7), (28, 28)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
def test_gelu_pool_is_within_the_error_budget(size, dtype):
    x = torch.randn(2, *size, 24, device=DEVICE).to(dtype)
    exact = foveal.ops.gelu_pool(x.double(), (3, 2))
    with foveal.ops.use_backend("reference"):
        plain = foveal.ops.gelu_pool(x, (3, 2))
    assert_within_budget(foveal.ops.gelu_pool(x, (3, 2)), plain, exact, size[0] * size[1])
