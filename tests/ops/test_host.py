"""Linear layers match PyTorch's, whichever library computes them; freed memory stays with the process."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from foveal.ops.host import linear, linear_add
from support.accuracy import assert_within_budget

SHAPES = [(2, 5, 7, 12), (3, 12), (1, 1, 1, 12), (0, 4, 4, 12), (12,)]
DTYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def random_tensor(*shape, dtype, seed):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_()


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


def test_layers_with_frozen_weights_keep_no_input():
    x = random_tensor(64, 12, dtype=torch.float32, seed=0)
    weight = random_tensor(9, 12, dtype=torch.float32, seed=1).detach()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        linear(x, weight)
    assert sum(kept) == weight.numel()


def test_second_derivatives_with_frozen_weights_are_correct():
    x, weight = random_tensor(4, 12, dtype=torch.float32, seed=0), random_tensor(9, 12, dtype=torch.float32, seed=1)

    def penalty(layer, cast):
        leaf = x.detach().to(cast).requires_grad_()
        y = layer(leaf, weight.detach().to(cast)).pow(3).sum()
        (first,) = torch.autograd.grad(y, leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    exact = penalty(F.linear, torch.float64)
    assert_within_budget(penalty(linear, torch.float32), penalty(F.linear, torch.float32), exact, 12 * 9 * 12)


PROGRAM = """
import resource, torch
from foveal.ops import keep_memory
kept = keep_memory() if {keep} else True
assert kept
torch.set_num_threads(1)
torch.zeros(16 << 20).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(16 << 20).fill_(1)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    program = PROGRAM.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_keep_memory_avoids_page_faults_for_large_temporaries():
    assert faults(keep=True) < faults(keep=False) / 5
