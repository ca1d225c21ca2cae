"""Fused GELU and adaptive average pooling."""

import math

import pytest
import torch

from foveal.ops import gelu_pool, use_backend
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_same, assert_within_budget

SHAPES = [  # batch, height, width, channels, pooled
    (2, 5, 7, 13, (2, 3)),
    (1, 1, 1, 3, (1, 1)),
    (2, 14, 14, 40, (7, 7)),
    (2, 13, 11, 33, (4, 11)),
    (1, 3, 4, 20, (5, 7)),
    (0, 4, 4, 8, (2, 2)),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instructions(request):
    if why_unavailable():
        pytest.skip(why_unavailable())
    before = instruction_set()
    try:
        instruction_set(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield
    instruction_set(before)


def random_map(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, height, width, channels, _ = shape
    wide = torch.randn(batch, height, width, 2 * channels + 1, generator=generator, dtype=torch.float64).to(dtype)
    return wide[..., 1 : channels + 1].detach().requires_grad_()


def with_gradient(x, size, backend):
    with use_backend(backend):
        y = gelu_pool(x, size)
    weighting = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    return y, torch.autograd.grad(y, x, weighting)[0]


def test_the_result_equals_a_loop_over_scalars():
    x = random_map((1, 5, 4, 2, (2, 3)), torch.float64)
    expected = torch.zeros(1, 2, 3, 2, dtype=torch.float64)
    for row in range(2):
        for column in range(3):
            rows = range(row * 5 // 2, math.ceil((row + 1) * 5 / 2))
            columns = range(column * 4 // 3, math.ceil((column + 1) * 4 / 3))
            for c in range(2):
                cell = [x[0, i, j, c].item() for i in rows for j in columns]
                expected[0, row, column, c] = sum(v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in cell) / len(cell)
    for backend in ("torch", "reference"):
        with use_backend(backend):
            assert_same(gelu_pool(x, (2, 3)).detach(), expected, 100)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_compiled_kernels_are_within_the_error_budget(shape, dtype, instructions):
    *_, size = shape
    exact = with_gradient(random_map(shape, dtype).double().detach().requires_grad_(), size, "reference")
    plain = with_gradient(random_map(shape, dtype), size, "reference")
    found = with_gradient(random_map(shape, dtype), size, "cpu")
    for actual, beside, expected in zip(found, plain, exact, strict=True):
        assert_within_budget(actual, beside, expected, shape[1] * shape[2])


def test_the_registration_passes_opcheck():
    x = random_map((1, 4, 3, 5, None), torch.float32)
    torch.library.opcheck(torch.ops.foveal.gelu_pool.default, (x, 2, 3, "cpu"))


def test_an_empty_pooled_map_is_rejected():
    with pytest.raises(ValueError, match="cannot pool a map of 4 x 4 to 0 x 2"):
        gelu_pool(torch.zeros(1, 4, 4, 3), (0, 2))


@pytest.mark.parametrize("size", [2, (2,), (2, 3, 4), None, "ab", (2.0, 3.0)], ids=str)
def test_a_size_that_is_not_a_pair_is_rejected(size):
    with pytest.raises(ValueError, match=r"^size must be \(height, width\) of the pooled map, two integers, got "):
        gelu_pool(torch.zeros(1, 4, 4, 3), size)


@pytest.mark.parametrize("shape", [(), (4, 4, 3), (1, 1, 4, 4, 3)], ids=str)
def test_a_wrong_shape_is_named_in_the_error(shape):
    with pytest.raises(ValueError, match=r"^x must be \(B, H, W, C\), got \("):
        gelu_pool(torch.zeros(shape), (2, 2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64], ids=str)
def test_non_floating_point_tensors_are_rejected(dtype):
    with pytest.raises(ValueError, match=f"^gelu_pool takes floating-point tensors, got one of {dtype}$"):
        gelu_pool(torch.zeros(1, 4, 4, 3, dtype=dtype), (2, 2))
