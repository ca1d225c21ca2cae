"""The interpreted Triton kernels of both convolution operators in float32, compared with the float64 reference;
and the address arithmetic shared by all kernels."""

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

from foveal.ops.aggregated_attention.triton.tiles import map_start
from foveal.ops.dynamic_dwconv import triton_kernels as dynamic
from foveal.ops.gated_dwconv import triton_kernels as gated
from foveal.ops.triton import depthwise as triton_depthwise
from foveal.ops.triton import rows_side_by_side, shared_alignment
from support.accuracy import assert_same, assert_within_budget
from support.operators import Call

KERNELS = {"gated_dwconv": gated, "dynamic_dwconv": dynamic}
CALLS = [
    call
    for small in (Call(operator, batch=1, height=5, width=3, heads=1, dim=5) for operator in KERNELS)
    for call in (
        small,
        replace(small, height=1, width=1, window=7),
        replace(small, height=1, width=7, batch=3, strided=2),
        replace(small, height=7, width=1, dim=72),  # two blocks of channels
        replace(small, height=13, width=11, batch=2, dim=24),  # three tiles of pixels
        replace(small, height=4, width=6, window=5, dim=16, strided=2),
        replace(small, window=1),
        replace(small, batch=0),
    )
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_output_and_gradients_are_within_the_error_budget(call):
    tensors = call.tensors(torch.float32)
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    grad = torch.randint(-16, 17, plain["output"].shape, generator=torch.Generator().manual_seed(1)) / 8
    operator = KERNELS[call.operator]
    results = (operator.forward(*tensors.values()), *operator.backward(grad, *tensors.values()))
    for name, actual in zip(("output", *tensors), results, strict=True):
        assert_within_budget(actual, plain[name], exact[name], call.reduction, name, floor=1.0)
        assert actual.is_contiguous()


@pytest.mark.parametrize("operator", KERNELS)
def test_splitting_the_work_into_many_programs_gives_the_same_result(operator, monkeypatch):
    call = Call(operator, batch=1, height=11, width=13)
    tensors = call.tensors(torch.float32)
    grad = torch.ones_like(next(iter(tensors.values())))
    few = KERNELS[operator].backward(grad, *tensors.values())
    monkeypatch.setattr(triton_depthwise, "programs_wanted", lambda device, each: 1000)
    many = KERNELS[operator].backward(grad, *tensors.values())
    for name, actual, expected in zip(tensors, many, few, strict=True):
        assert_same(actual, expected, call.reduction, name)


@pytest.mark.parametrize("operator", KERNELS)
def test_unsupported_calls_are_reported(operator):
    tensors = Call(operator).tensors(torch.float32)
    unsupported = KERNELS[operator].unsupported
    assert unsupported(*tensors.values()) is None
    assert "only in float32" in unsupported(*Call(operator).tensors(torch.float16).values())
    assert "wider than 15" in unsupported(*Call(operator, window=17).tensors(torch.float32).values())


@pytest.mark.parametrize("operator", KERNELS)
def test_results_are_deterministic(operator):
    call = Call(operator)
    tensors = call.tensors(torch.float32)
    grad = torch.ones_like(next(iter(tensors.values())))
    first, second = (KERNELS[operator].backward(grad, *tensors.values()) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_addresses_are_computed_in_64_bits():
    @triton.jit
    def kernel(x_ptr, distance_ptr, batch_stride, head_stride):
        start = map_start(x_ptr, tl.program_id(0), tl.program_id(1), batch_stride, head_stride)
        tl.store(distance_ptr, tl.cast(start, tl.int64) - tl.cast(x_ptr, tl.int64))

    distance = torch.zeros(1, dtype=torch.int64)
    kernel[(3, 2)](torch.zeros(1), distance, 1_600_000_000, 1_200_000_000)
    assert distance.item() == 4 * (2 * 1_600_000_000 + 1_200_000_000)


def test_channel_slices_are_read_in_place_with_their_alignment():
    wide = torch.zeros(2, 3, 4, 48)
    assert rows_side_by_side(wide[..., 24:]).data_ptr() == wide[..., 24:].data_ptr()
    assert shared_alignment([wide[..., 24:]]) == 4
    assert shared_alignment([wide[..., 1:]]) == 1
    assert shared_alignment([torch.zeros(2, 3, 4, 5)]) == 1


@pytest.mark.parametrize("turn", [lambda x: x.mT, lambda x: x[:, ::2], lambda x: x[..., ::2]])
def test_other_views_are_copied(turn):
    x = turn(torch.zeros(2, 4, 4, 4))
    assert rows_side_by_side(x).is_contiguous()
