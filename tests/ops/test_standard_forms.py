"""The standard form of every operator, for exported programs: the results of the reference by PyTorch's operators."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import foveal.ops
from foveal.ops import BackendError, explain, gelu_pool, use_backend
from foveal.ops.standard import NAME, adaptive_pool, average_pool
from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call, all_calls

HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}
FLOATS = {torch.float32: "fp32", **HALF}
OPTIONAL = ("query_embedding", "local_bias", "pool_bias", "tokens", "token_bias")
# Map and pooled map: even and uneven windows, one cell, one pixel, one column, more cells than pixels, no pooling.
POOLS = (
    ((8, 12), (2, 3)), ((14, 14), (7, 7)), ((13, 11), (4, 11)), ((7, 5), (3, 2)), ((9, 1), (4, 1)), ((1, 1), (1, 1)),
    ((1, 17), (1, 1)), ((5, 7), (1, 1)), ((3, 4), (5, 7)), ((6, 6), (6, 6)), ((8, 7), (4, 3)),
)  # fmt: skip
every_operator = pytest.mark.parametrize("operator", OPERATORS)
every_pool = pytest.mark.parametrize(("size", "pool"), POOLS, ids=str)


def ids(call: Call) -> str:
    return call.id


def without(tensors, names):
    return {name: tensor for name, tensor in tensors.items() if name not in names}


# Programs are traced with one image at least: PyTorch's grouped convolution has no form for none.
@pytest.mark.parametrize("call", [call for call in all_calls() if call.batch], ids=ids)
def test_output_and_gradients_equal_the_reference_in_double_precision(call):
    tensors = {name: tensor for name, tensor in call.tensors().items() if tensor.numel()}
    actual, expected = (call.run_with_gradients(tensors, backend) for backend in (NAME, "reference"))
    for name, value in expected.items():
        assert_same(actual[name], value, call.reduction, name, floor=1.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=FLOATS.values())
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(5, 7, 3), (8, 1, 5), (1, 9, 7)], ids=lambda s: f"{s[0]}x{s[1]}, window {s[2]}")
@every_operator
def test_rounding_of_output_and_gradients_is_within_the_error_budget(operator, size, batch, dtype):
    height, width, window = size
    call = Call(operator, batch=batch, height=height, width=width, window=window, dim=24, pool=(2, 3))
    tensors = call.tensors(dtype)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain, actual = (call.run_with_gradients(tensors, backend) for backend in ("reference", NAME))
    for name, value in exact.items():
        assert_within_budget(actual[name], plain[name], value, call.reduction, name)


@pytest.mark.parametrize("dtype", FLOATS, ids=FLOATS.values())
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (12, 1)], ids=str)
def test_attention_without_a_window_is_within_the_error_budget(size, dtype):
    call = Call("aggregated_attention", height=size[0], width=size[1], pool=size, window=0, dim=24)
    tensors = call.tensors(dtype)
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    assert_within_budget(call.run(tensors, NAME), call.run(tensors, "reference"), exact, call.reduction)


@pytest.mark.parametrize("window", [0, 3, 5, 7])
@pytest.mark.parametrize("absent", [*((name,) for name in OPTIONAL), OPTIONAL], ids="-".join)
def test_terms_that_are_left_out_count_as_zero(window, absent):
    call = Call("aggregated_attention", height=4, width=6, pool=(2, 3), window=window)
    tensors = without(call.tensors(), absent)
    assert_same(call.run(tensors, NAME), call.run(tensors, "reference"), call.reduction)


@pytest.mark.parametrize("spread", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", HALF, ids=HALF.values())
@every_operator
def test_small_and_large_values_are_within_the_error_budget(operator, dtype, spread):
    call = Call(operator, dim=24)
    tensors = call.tensors(dtype)
    first = next(iter(tensors))
    tensors[first] = tensors[first] * spread
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    assert_within_budget(call.run(tensors, NAME), call.run(tensors, "reference"), exact, call.reduction)


def test_zero_vectors_have_finite_output():
    call = Call("aggregated_attention")
    tensors = call.tensors(torch.float32)
    tensors["q"][0, 0, 0] = tensors["k"][0, 1, 1] = tensors["k_pool"][1, 0, 0] = 0
    assert_same(call.run(tensors, NAME), call.run(tensors, "reference"), call.reduction)


@pytest.mark.parametrize("activations", HALF, ids=HALF.values())
def test_attention_of_half_activations_is_computed_in_float32(activations):
    call = Call("aggregated_attention", dim=24)
    tensors = call.tensors(activations, parameters=torch.float32)
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    with torch.autocast("cpu", activations):
        actual, plain = (call.run(tensors, backend) for backend in (NAME, "reference"))
    assert_within_budget(actual, plain, exact, call.reduction)


@every_pool
def test_average_pooling_equals_that_of_pytorch(size, pool):
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    y, expected = average_pool(x, pool), F.adaptive_avg_pool2d(x, pool)
    weighting, reduction = torch.randn_like(y), x[0, 0].numel()
    assert_same(y, expected, reduction, floor=1.0)
    gradients = [torch.autograd.grad(out, x, weighting)[0] for out in (y, expected)]
    assert_same(*gradients, reduction, floor=1.0)


@pytest.mark.parametrize("dtype", HALF, ids=HALF.values())
@every_pool
def test_rounding_of_pooling_is_within_the_error_budget(size, pool, dtype):
    x = torch.randn(2, *size, 24).to(dtype)
    with use_backend("reference"):
        plain, exact = gelu_pool(x, pool), gelu_pool(x.double(), pool)
    with use_backend(NAME):
        actual = gelu_pool(x, pool)
    assert_within_budget(actual, plain, exact, size[0] * size[1])


class Pool(torch.nn.Module):
    """Pooling to a fixed size, or of fixed cells if ``divides``."""

    def __init__(self, size, divides):
        super().__init__()
        self.size, self.divides = size, divides

    def forward(self, x):
        height, width = self.size
        return adaptive_pool(x, (x.shape[2] // height, x.shape[3] // width) if self.divides else self.size)


@pytest.mark.parametrize("divides", [False, True], ids=["to 7 x 5", "by 7 x 5"])
def test_a_program_of_pooling_is_right_at_every_size(divides):
    pool = Pool((7, 5), divides)
    axes = {2: torch.export.Dim("height", min=14), 3: torch.export.Dim("width", min=14)}
    options = dict(dynamic_shapes=(axes,), prefer_deferred_runtime_asserts_over_guards=True)  # as foveal export's
    program = torch.export.export(pool, (torch.randn(2, 3, 21, 15),), **options).module()
    for size in ((21, 15), (14, 14), (16, 33), (70, 25)):
        x = torch.randn(2, 3, *size)
        assert_same(program(x), pool(x), size[0] * size[1], floor=1.0)


@pytest.mark.parametrize(("size", "kernel"), [((7, 5), 3), ((1, 9), 5), ((4, 1), 3)], ids=str)
def test_a_program_for_any_batch_convolves_every_sample_with_its_kernel(size, kernel):
    class Convolution(torch.nn.Module):
        def forward(self, x, weight, bias):
            return foveal.ops.dynamic_dwconv(x, weight, bias)

    call = Call("dynamic_dwconv", batch=2, height=size[0], width=size[1], window=kernel)
    batch = torch.export.Dim("batch", min=1)
    example = tuple(call.tensors().values())
    program = torch.export.export(Convolution(), example, dynamic_shapes=({0: batch},) * 3).module()
    for count in (1, 2, 3):
        tensors = replace(call, batch=count).tensors()
        assert_same(program(*tensors.values()), call.run(tensors, "reference"), call.reduction)


@every_operator
def test_the_standard_form_is_for_exported_programs_and_by_name_alone(operator):
    call = Call(operator)
    arguments = call.arguments(call.tensors())
    assert explain(operator, **arguments).chosen != NAME
    assert explain(operator, **arguments).reasons[NAME] == "only in an exported program"
    with use_backend(NAME):
        assert explain(operator, **arguments).chosen == NAME


def test_dropout_is_refused():
    call = Call("aggregated_attention")
    with use_backend(NAME), pytest.raises(BackendError, match="'standard': attention dropout runs only on the ref"):
        foveal.ops.aggregated_attention(**call.arguments(call.tensors()), dropout_p=0.5)


def test_autocast_does_not_lower_the_precision_of_attention():
    """With all arguments in float32, an internal product computed in bf16 would change the result."""
    call = Call("aggregated_attention", dim=24)
    tensors = call.tensors(torch.float32)
    expected = call.run(tensors, NAME)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(call.run(tensors, NAME), expected)
