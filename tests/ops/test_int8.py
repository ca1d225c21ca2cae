"""int8 products: what their integers mean, against sums in NumPy's int64, whatever computes them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal.ops import use_backend
from foveal.ops.int8 import Int8Weight, int8_linear, product, quantize
from foveal.ops.native import instruction_set, why_unavailable

ROWS, INPUTS, OUTPUTS, SCALE = 37, 72, 50, 0.037
# Without VNNI instructions oneDNN's sums of two products overflow for larger weights: 2 * 255 * 64 < 2**15.
SAFE = 64


@pytest.fixture(params=["oneDNN", "float32"])
def computed_by(request, monkeypatch) -> str:
    """Compute the products in one of the two ways, whatever this processor would choose."""
    if request.param == "oneDNN" and not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        pytest.skip("this PyTorch has no int8 products of oneDNN")
    monkeypatch.setattr(product, "runs_in_onednn", lambda dtype: request.param == "oneDNN")
    return request.param


def integers(largest: int = SAFE, inputs: int = INPUTS):
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 256, (ROWS, inputs), generator=generator).to(torch.uint8)
    w = torch.randint(-largest, largest + 1, (OUTPUTS, inputs), generator=generator).to(torch.int8)
    q[0], w[0] = 255, largest  # the largest sum
    scale, bias = torch.rand(OUTPUTS, generator=generator) + 0.1, torch.randn(OUTPUTS, generator=generator)
    return q, Int8Weight(w, scale, bias)


def exact(q, zero_point: int, w: Int8Weight) -> np.ndarray:
    """(q - zero point) W^T as int64, then scales and bias in float64."""
    sums = (q.numpy().astype(np.int64) - zero_point) @ w.weight.numpy().astype(np.int64).T
    return sums * (SCALE * w.scale.numpy().astype(np.float64)) + w.bias.numpy().astype(np.float64)


def rounding(expected: np.ndarray, dtype: torch.dtype, roundings: int = 4) -> np.ndarray:
    """A few roundings in float32, and the last one in ``dtype``."""
    eps = torch.finfo(dtype).eps + roundings * torch.finfo(torch.float32).eps
    return eps * np.abs(expected).max()


@pytest.mark.parametrize("zero_point", [0, 77, 255])
def test_sums_scales_and_zero_points_are_those_of_integer_arithmetic(computed_by, zero_point):
    q, w = integers()
    expected = exact(q, zero_point, w)
    found = int8_linear(q, SCALE, zero_point, w, torch.float32)
    assert found.dtype is torch.float32
    assert np.abs(found.numpy() - expected).max() <= rounding(expected, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gelu_and_addition_follow_the_product(computed_by, dtype):
    if computed_by == "oneDNN" and dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN does not compute in bfloat16 on this processor")
    q, w = integers()
    product_, other = exact(q, 77, w), torch.randn(ROWS, OUTPUTS).to(dtype)
    for options, expected in (
        (dict(gelu=True), F.gelu(torch.from_numpy(product_)).numpy()),
        (dict(add=other), product_ + other.double().numpy()),
    ):
        found = int8_linear(q, SCALE, 77, w, dtype, **options)
        assert found.dtype is dtype
        assert np.abs(found.double().numpy() - expected).max() <= rounding(product_, dtype)


def test_leading_dimensions_and_strides_are_kept(computed_by):
    q, w = integers()
    flat = int8_linear(q[:32], SCALE, 77, w, torch.float32)
    maps = q[:32].view(2, 4, 4, INPUTS)
    assert torch.equal(int8_linear(maps, SCALE, 77, w, torch.float32).flatten(0, 2), flat)
    turned = maps.permute(0, 2, 1, 3)
    assert torch.equal(int8_linear(turned, SCALE, 77, w, torch.float32), flat.view(2, 4, 4, -1).permute(0, 2, 1, 3))
    assert int8_linear(maps[:0], SCALE, 77, w, torch.float32).shape == (0, 4, 4, OUTPUTS)


def test_an_addition_of_another_dtype_widens_the_result(computed_by):
    q, w = integers()
    other = torch.randn(ROWS, OUTPUTS).bfloat16()
    found = int8_linear(q, SCALE, 77, w, torch.float32, add=other)
    assert torch.equal(found, int8_linear(q, SCALE, 77, w, torch.float32) + other)


def test_the_largest_weights_are_exact_on_every_processor():
    """oneDNN's int16 sums would give 32767 for every pair of 255 * 127."""
    for inputs in (INPUTS, 512, 2048):
        q, w = integers(127, inputs)
        expected = exact(q, 0, w)
        found = int8_linear(q, SCALE, 0, w, torch.float32)
        assert np.abs(found.numpy() - expected).max() <= rounding(expected, torch.float32)


def test_a_library_whose_sums_overflow_is_not_used(monkeypatch):
    monkeypatch.setattr(product, "why_slow", lambda: None)
    product.runs_in_onednn.cache_clear()

    def overflowing(q, scale, zero_point, w, dtype, gelu, add):
        pairs = q.int().unflatten(-1, (-1, 2))[:, None] * w.weight.int().unflatten(-1, (-1, 2))
        return pairs.sum(-1).clamp(-(2**15), 2**15 - 1).sum(-1).to(dtype)

    def right(q, scale, zero_point, w, dtype, gelu, add):
        return (q.long() @ w.weight.long().T).to(dtype)

    def missing(*args):
        raise AttributeError("qlinear_pointwise")

    for library, used in ((overflowing, False), (right, True), (missing, False)):
        monkeypatch.setattr(product, "_in_onednn", library)
        assert product.runs_in_onednn(torch.float32) is used
        product.runs_in_onednn.cache_clear()


def test_without_vnni_the_reason_is_named_and_onednn_is_not_used(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    for function in (product.why_slow, product.runs_in_onednn):
        function.cache_clear()
    assert "no VNNI" in product.why_slow()
    assert not product.runs_in_onednn(torch.float32)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    product.why_slow.cache_clear()
    assert product.why_slow() is None
    for function in (product.why_slow, product.runs_in_onednn):
        function.cache_clear()


@pytest.fixture(params=["torch", "avx512", "avx2", "baseline"])
def rounded_by(request):
    """Round to levels by PyTorch's operators, or by the compiled kernel in one of its instruction sets."""
    if request.param == "torch":
        with use_backend("torch"):
            yield
        return
    if why_unavailable() is not None:
        pytest.skip(why_unavailable())
    before = instruction_set()
    try:
        instruction_set(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    with use_backend("cpu"):
        yield
    instruction_set(before)


def levels(x: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """The definition in float64, with ties to even."""
    return np.clip(np.rint(x / scale) + zero_point, 0, 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_numbers_go_to_the_nearest_level_and_are_clamped(rounded_by, dtype):
    # Powers of two are exact, so that ties are ties.
    x = torch.tensor([0.0, 0.125, 0.375, -0.125, -0.375, 1.0, -20.0, 63.0, 1e30, -1e30]).to(dtype)
    assert quantize(x, 0.25, 10).tolist() == [10, 10, 12, 10, 8, 14, 0, 255, 255, 0]
    assert quantize(x, 0.25, 10).dtype is torch.uint8


@pytest.mark.parametrize("shape", [(3, 5, 7, 72), (1, 1), (2, 33), (0, 8)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_levels_are_those_of_float64_except_at_ties(rounded_by, dtype, shape):
    x = (torch.randn(shape) * 3).to(dtype)
    found = quantize(x, SCALE, 101)
    assert found.shape == shape
    assert_levels(found, x.double().numpy())


@pytest.mark.parametrize("channels", [1, 8, 24, 72, 100, 1023])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_norm_is_applied_first(rounded_by, dtype, channels):
    norm = nn.LayerNorm(channels, eps=1e-6)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = (torch.randn(2, 3, 4, channels) * 5 + 2).to(dtype)
    wide = x.double().numpy()
    normal = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-6)
    normal = normal * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
    with torch.no_grad():
        assert_levels(quantize(x, SCALE, 101, norm), normal)


def assert_levels(found: torch.Tensor, x: np.ndarray) -> None:
    """Equal to the definition; off by one only where x lies within float32's rounding of a tie."""
    expected = levels(x, SCALE, 101)
    off = np.abs(found.double().numpy() - expected)
    from_tie = np.abs(np.abs(x / SCALE - np.rint(x / SCALE)) - 0.5)
    near = from_tie <= 32 * torch.finfo(torch.float32).eps * (np.abs(x).max(initial=0) / SCALE + 1)
    assert off.max(initial=0) <= 1
    assert not off[~near].any()


def test_strided_tokens_are_accepted(rounded_by):
    x = torch.randn(2, 8, 5, 6).permute(0, 2, 3, 1)
    assert torch.equal(quantize(x, SCALE, 101), quantize(x.contiguous(), SCALE, 101))
    for part in (x[:, ::2], x[..., 1:3], x[..., ::2], x[:1, :1, :1]):
        assert torch.equal(quantize(part, SCALE, 101), quantize(part.contiguous(), SCALE, 101))


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_the_number_of_threads_changes_nothing():
    norm, x = nn.LayerNorm(100), torch.randn(37, 100)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        with use_backend("cpu"), torch.no_grad():
            found.append((quantize(x, SCALE, 101), quantize(x, SCALE, 101, norm)))
    torch.set_num_threads(before)
    for plain, normal in found:
        assert torch.equal(plain, found[0][0])
        assert torch.equal(normal, found[0][1])


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_the_kernel_gives_the_bits_of_pytorchs_operators():
    x = torch.randn(1000, 72) * 3
    for dtype in (torch.float32, torch.bfloat16):
        with use_backend("torch"):
            expected = quantize(x.to(dtype), SCALE, 101)
        with use_backend("cpu"):
            assert torch.equal(quantize(x.to(dtype), SCALE, 101), expected)


def test_tracers_see_pytorchs_operators():
    x = torch.randn(5, 8)
    compiled = torch.compile(lambda x: quantize(x, 0.25, 10), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), quantize(x, 0.25, 10))
