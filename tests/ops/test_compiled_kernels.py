"""The compiled CPU kernels: every instruction set of this processor, all shapes, one and several threads."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from foveal.ops import gated_dwconv, use_backend
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call, all_calls

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
every_operator = pytest.mark.parametrize("operator", OPERATORS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())


def can_run(name: str) -> bool:
    before = instruction_set()
    try:
        instruction_set(name)
    except ValueError:
        return False
    instruction_set(before)
    return True


@cache
def instruction_sets() -> tuple[str, ...]:
    """Instruction sets of this processor, the best one first."""
    return tuple(name for name in ("avx512", "avx2", "baseline") if can_run(name))


@pytest.fixture(autouse=True)
def the_processor_as_it_was():
    threads, name = torch.get_num_threads(), instruction_set()
    yield
    torch.set_num_threads(threads)
    instruction_set(name)


def test_the_best_instruction_set_is_in_use():
    assert instruction_set() == instruction_sets()[0]
    with pytest.raises(ValueError, match="cannot run the 'z80' kernels"):
        instruction_set("z80")


@every_dtype
@pytest.mark.parametrize("call", all_calls(), ids=lambda call: call.id)
def test_output_and_gradients_are_within_the_error_budget(call, dtype):
    tensors = call.tensors(dtype)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    for name in instruction_sets():
        instruction_set(name)
        actual = call.run_with_gradients(tensors, "cpu")
        for part, value in exact.items():
            # Values are of order 1; with a head dimension of 1 the gradients of q and k cancel to 0.
            assert_within_budget(actual[part], plain[part], value, call.reduction, f"{name}: {part}", floor=1.0)


@every_dtype
@pytest.mark.parametrize("size", [(1, 13, 11), (2, 8, 8), (3, 2, 19)], ids=str)
@pytest.mark.parametrize("window", [3, 7])
@every_operator
def test_threads_change_results_by_rounding_only(operator, window, size, dtype):
    batch, height, width = size
    call = Call(operator, batch=batch, height=height, width=width, heads=2, dim=24, window=window)
    if operator == "multiscale_dwconv":
        call = replace(call, options=dict(gelu=True, identity=True))
    tensors = call.tensors(dtype)
    torch.set_num_threads(1)
    alone = call.run_with_gradients(tensors, "cpu")
    for threads in (2, 3):
        torch.set_num_threads(threads)
        first, again = (call.run_with_gradients(tensors, "cpu") for _ in range(2))
        for name, value in alone.items():
            assert_same(first[name], value, call.reduction, f"{name}, {threads} threads", floor=1.0)
            assert torch.equal(first[name], again[name]), f"{name} differs from run to run"


@every_dtype
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_heads_that_do_not_fit_the_cache_together_are_attended_in_unequal_groups(threads, dtype):
    """What is kept of one head takes about 20,000 floats, so five heads are cut into groups of two and three."""
    call = Call("aggregated_attention", batch=1, height=6, width=9, heads=5, dim=22, pool=(20, 20))
    tensors = call.tensors(dtype)
    exact = call.run({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run(tensors, "reference")
    torch.set_num_threads(threads)
    for name in instruction_sets():
        instruction_set(name)
        assert_within_budget(call.run(tensors, "cpu"), plain, exact, call.reduction, name, floor=1.0)


@every_dtype
def test_slices_and_permuted_maps_are_read_in_place(dtype):
    call = Call("gated_dwconv", height=6, width=5, heads=2, dim=24)
    tensors = call.tensors(dtype)
    expected = call.run_with_gradients(tensors, "cpu")
    both = torch.cat([tensors["g"], tensors["v"]], -1)
    halves = dict(zip("gv", both.chunk(2, -1), strict=True))
    planes = {n: tensors[n].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for n in "gv"}
    turned = {n: tensors[n].transpose(1, 2).contiguous().transpose(1, 2) for n in "gv"}
    for maps in (halves, planes, turned):
        actual = call.run_with_gradients({**tensors, **maps}, "cpu")
        assert all(torch.equal(actual[name], value) for name, value in expected.items())


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@every_dtype
@every_operator
def test_parameters_may_have_another_dtype(operator, dtype, weight):
    call = Call(operator)
    tensors = call.tensors(dtype, parameters=weight)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    for name, value in call.run_with_gradients(tensors, "cpu").items():
        assert_within_budget(value, plain[name], exact[name], call.reduction, name)


@pytest.mark.parametrize("number", [0.0, -0.0, 1e-30, 1e-3, 5.19, 5.21, 30.0, 1e4, 1e30])
def test_gelu_is_accurate_for_values_of_any_magnitude(number):
    """Uses a 1 x 1 kernel of ones; single precision allows half a unit in the last place of Phi."""
    x = torch.tensor([number, -number]).reshape(1, 1, 2, 1).expand(1, 1, 2, 20)
    ones = torch.ones(20, 1, 1, 1)
    for name in instruction_sets():
        instruction_set(name)
        with use_backend("cpu"):
            found = gated_dwconv(x, torch.ones_like(x), ones)
        exact = torch.nn.functional.gelu(x.double())
        assert ((found - exact).abs() <= 2e-7 * x.abs()).all()


@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
@every_operator
def test_nan_and_inf_propagate(operator, lost):
    call = Call(operator, heads=2, dim=24)
    tensors = call.tensors(torch.float32)
    first = next(iter(tensors))
    tensors[first][0, 2, 3] = lost
    assert not call.run(tensors, "cpu")[0, 2, 3].isfinite().all()


@every_operator
def test_compiles_without_graph_breaks_for_dynamic_sizes(operator):
    call = Call(operator)
    compiled = torch.compile(
        lambda tensors: call.run(tensors, "cpu"), fullgraph=True, backend="aot_eager", dynamic=True
    )
    for height, width in ((5, 7), (8, 3)):
        sized = replace(call, height=height, width=width)
        tensors = sized.tensors(torch.float32)
        assert torch.equal(compiled(tensors), sized.run(tensors, "cpu"))
