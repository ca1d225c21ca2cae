"""Linear layers and 1x1 convolutions match PyTorch's, whichever library computes them."""

import pytest
import torch
import torch.nn.functional as F

import foveal
from foveal.ops.linear import linear, linear_add, linear_backward, pointwise
from support.accuracy import assert_within_budget

SHAPES = [(2, 5, 7, 12), (3, 12), (1, 1, 1, 12), (0, 4, 4, 12), (12,)]
DTYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def random_tensor(*shape, dtype, seed):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_()


@pytest.fixture(params=[False, True], ids=["without AVX-512", "with AVX-512"], autouse=True)
def processor(request, monkeypatch):
    """Which library computes a weight's gradient depends on the processor; both work on every one."""
    monkeypatch.setattr(foveal.ops.linear, "_has_avx512", lambda: request.param)


def form(x, weight, bias, other, gelu, layers):
    if layers:
        y = F.linear(x, weight, bias)
        return (F.gelu(y) if gelu else y) + other
    return linear(x, weight, bias, gelu=True) + other if gelu else linear_add(x, weight, bias, other)


@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_linear_layers_match_pytorch(shape, dtype, gradients, gelu, strided):
    wide = random_tensor(*shape[:-1], 24, dtype=dtype, seed=0)
    tensors = [
        (wide[..., ::2] if strided else wide[..., :12].contiguous()).detach().requires_grad_(),
        random_tensor(9, 12, dtype=dtype, seed=1),
        random_tensor(9, dtype=dtype, seed=2),
        random_tensor(*shape[:-1], 9, dtype=dtype, seed=3),
    ]
    results = []
    for layers, cast in ((False, dtype), (True, dtype), (True, torch.float64)):
        leaves = [t.detach().to(cast).requires_grad_(gradients) for t in tensors]
        y = form(*leaves, gelu, layers)
        results.append([y.detach(), *(torch.autograd.grad(y.square().sum(), leaves) if gradients else ())])
    for actual, plain, exact in zip(*results, strict=True):
        assert_within_budget(actual, plain, exact, 12 * 100)


def test_linear_layers_without_bias_match_pytorch():
    x, weight = random_tensor(4, 12, dtype=torch.float32, seed=0), random_tensor(9, 12, dtype=torch.float32, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_autocast_casts_the_output_as_for_pytorch_layers():
    x, weight = random_tensor(4, 12, dtype=torch.float32, seed=0), random_tensor(9, 12, dtype=torch.float32, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype is torch.bfloat16


def test_second_derivatives_are_correct():
    leaves = [random_tensor(3, 4, dtype=torch.float64, seed=0), random_tensor(2, 4, dtype=torch.float64, seed=1)]
    assert torch.autograd.gradgradcheck(lambda x, w: linear(x, w, gelu=True), leaves)


def test_second_derivatives_are_correct_in_single_precision():
    leaves = [random_tensor(3, 4, dtype=torch.float32, seed=0), random_tensor(2, 4, dtype=torch.float32, seed=1)]
    found = []
    for layers, dtype in ((False, torch.float32), (True, torch.float64)):
        x, weight = (t.detach().to(dtype).requires_grad_() for t in leaves)
        y = F.linear(x, weight) if layers else linear(x, weight)
        first = torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight)))
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("needed", ["x", "weight", "bias"])
def test_gradients_exist_only_where_asked_for(needed):
    leaves = {
        name: random_tensor(*shape, dtype=torch.float32, seed=seed).detach().requires_grad_(name == needed)
        for seed, (name, shape) in enumerate({"x": (3, 5, 12), "weight": (9, 12), "bias": (9,)}.items())
    }
    linear(**leaves).square().sum().backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is not None] == [needed]


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_pointwise_convolutions_match_pytorch(layout, dtype):
    maps = random_tensor(2, 12, 5, 7, dtype=dtype, seed=0).detach().contiguous(memory_format=layout)
    others = [random_tensor(9, 12, 1, 1, dtype=dtype, seed=1), random_tensor(9, dtype=dtype, seed=2)]
    results = []
    for convolution, cast in ((pointwise, dtype), (F.conv2d, dtype), (F.conv2d, torch.float64)):
        leaves = [t.detach().to(cast).requires_grad_() for t in (maps, *others)]
        y = convolution(*leaves)
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), leaves)])
    for actual, plain, exact in zip(*results, strict=True):
        assert_within_budget(actual, plain, exact, 12 * 100)


def test_pointwise_convolutions_accept_a_map_without_a_batch_as_pytorch_does():
    x, weight = (
        random_tensor(12, 5, 7, dtype=torch.float32, seed=0),
        random_tensor(9, 12, 1, 1, dtype=torch.float32, seed=1),
    )
    torch.testing.assert_close(pointwise(x, weight), F.conv2d(x, weight))


@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_the_backward_pass_of_a_contained_layer_is_that_of_the_layer(strided):
    x, grad = (
        random_tensor(2, 5, 7, 12, dtype=torch.float32, seed=0),
        random_tensor(2, 5, 7, 9, dtype=torch.float32, seed=1),
    )
    weight, bias = random_tensor(9, 12, dtype=torch.float32, seed=2), random_tensor(9, dtype=torch.float32, seed=3)
    if strided:
        grad = grad.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    leaves = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    exact = torch.autograd.grad(F.linear(*leaves), leaves, grad.double())
    with torch.no_grad():
        ours = linear_backward(grad.detach(), x.detach(), weight.detach())
    for actual, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layer", [linear, pointwise], ids=["linear", "pointwise"])
def test_what_only_a_frozen_weight_would_need_is_not_kept(layer):
    maps = torch.randn(2, 12, 5, 7).contiguous(memory_format=torch.channels_last)
    x = (maps if layer is pointwise else maps.permute(0, 2, 3, 1)).detach().requires_grad_()
    weight, kept = torch.randn(9, 12, 1, 1) if layer is pointwise else torch.randn(9, 12), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        y = layer(x, weight)
    y.sum().backward()
    assert kept == [torch.Size([9, 12])]
    assert x.grad is not None


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
def test_layers_with_frozen_weights_give_the_gradient_of_their_input(shape, dtype, gelu):
    x, upstream = random_tensor(*shape, dtype=dtype, seed=0), random_tensor(*shape[:-1], 9, dtype=dtype, seed=3)
    weight, bias = random_tensor(9, 12, dtype=dtype, seed=1), random_tensor(9, dtype=dtype, seed=2)
    results = []
    for layer, cast in ((linear, dtype), (F.linear, dtype), (F.linear, torch.float64)):
        leaf = x.detach().to(cast).requires_grad_()
        y = layer(leaf, weight.detach().to(cast), bias.detach().to(cast))
        y = F.gelu(y) if gelu else y
        results.append([y.detach(), *torch.autograd.grad(y, leaf, upstream.detach().to(cast))])
    for actual, plain, exact in zip(*results, strict=True):
        assert_within_budget(actual, plain, exact, 12 * 100)


def test_second_derivatives_with_frozen_weights_are_correct():
    x, weight = random_tensor(4, 12, dtype=torch.float32, seed=0), random_tensor(9, 12, dtype=torch.float32, seed=1)

    def penalty(layer, cast):
        leaf = x.detach().to(cast).requires_grad_()
        y = layer(leaf, weight.detach().to(cast)).pow(3).sum()
        (first,) = torch.autograd.grad(y, leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    exact = penalty(F.linear, torch.float64)
    assert_within_budget(penalty(linear, torch.float32), penalty(F.linear, torch.float32), exact, 12 * 9 * 12)
