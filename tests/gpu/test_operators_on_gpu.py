"""The operators on a CUDA device: every dtype and shape against the reference in fp64. Run by `make test-gpu`."""

import pytest
import torch

from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call, all_calls

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("call", all_calls(), ids=lambda call: call.id)
def test_output_and_gradients_stay_within_the_budget(call, dtype):
    tensors = call.tensors(dtype, device=DEVICE)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    actual = call.run_with_gradients(tensors)
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name, floor=1.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_double_precision_equals_the_cpu(operator):
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
