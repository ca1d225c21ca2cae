"""Batch norm in training as part of its neighbours: the layers' own results, gradients and running statistics."""

import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from foveal.models.layers import d_mixer, multiscale_ffn
from foveal.ops import use_backend
from foveal.ops.batch_norm import depthwise_block, fuses
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_within_budget
from support.nets import image

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


@pytest.fixture(autouse=True)
def the_processor_as_it_was():
    threads, name = torch.get_num_threads(), instruction_set()
    yield
    torch.set_num_threads(threads)
    instruction_set(name)


class Block(nn.Module):
    """The layers of a depthwise block, one after another."""

    def __init__(self, groups, out, entry, identity, bias=True):
        super().__init__()
        self.identity, dim = identity, sum(channels for channels, _ in groups)
        self.entry = nn.BatchNorm2d(dim, momentum=0.3, eps=1e-3) if entry else None
        self.convs = nn.ModuleList(nn.Conv2d(c, c, k, padding=k // 2, groups=c) for c, k in groups)
        self.norm = nn.BatchNorm2d(dim)
        self.pointwise = nn.Conv2d(dim, out, 1, bias=bias)
        for norm in (self.entry, self.norm) if entry else (self.norm,):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias)
            norm.weight.data[0] = 0  # the normalised number cannot be found from the norm's result

    def forward(self, x):
        if self.entry is not None:
            x = self.entry(F.gelu(x))
        parts = x.split([conv.out_channels for conv in self.convs], 1)
        y = torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)
        return self.pointwise(self.norm(F.gelu(y + x if self.identity else y)))

    def fused(self, x):
        norms = (self.norm,) if self.entry is None else (self.entry, self.norm)
        assert fuses(x, norms, (self.pointwise,), self.convs)
        return depthwise_block(x, self.convs, self.norm, self.pointwise, entry=self.entry, identity=self.identity)


def drawn(batch, height, width, groups, out, entry, identity, mean=0.0):
    torch.manual_seed(0)
    block = Block(groups, out, entry, identity, bias=identity)
    x = 2 * torch.randn(batch, sum(c for c, _ in groups), height, width, dtype=torch.float64) + mean
    return block, x, torch.randn(batch, out, height, width, dtype=torch.float64)


def trained(block, forward, x, grad, dtype):
    """All numbers of a step: the output, all gradients, and the norms' buffers."""
    block = copy.deepcopy(block).to(dtype).train()
    x = x.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    y = forward(block, x)
    y.backward(grad.to(dtype))
    gradients = {f"the gradient of {name}": p.grad for name, p in block.named_parameters()}
    return {"the output": y.detach(), "the gradient of x": x.grad, **gradients, **dict(block.named_buffers())}


FFN = ((8, 1), (8, 3), (8, 5), (8, 7))
# Batch, height, width, groups of channels and kernels, output channels: groups that fill no vector or part of one, maps
# smaller than a kernel, one row, and images that do not share out evenly among threads.
SHAPES = (
    (3, 9, 11, FFN, 12), (2, 7, 7, ((9, 7), (5, 3), (20, 1)), 5), (1, 1, 5, ((3, 3),), 4), (5, 4, 3, ((17, 5),), 16),
    (2, 28, 30, ((24, 3), (24, 9)), 24),
)  # fmt: skip


@pytest.mark.parametrize("identity", [False, True], ids=["", "identity"])
@pytest.mark.parametrize("entry", [False, True], ids=["", "entry"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_is_that_of_the_layers_in_float64(shape, entry, identity):
    block, x, grad = drawn(*shape, entry, identity)
    exact, plain = (trained(block, Block.forward, x, grad, dtype) for dtype in (torch.float64, torch.float32))
    pixels, taps = shape[0] * shape[1] * shape[2], max(k * k for _, k in shape[3])
    for name in ("avx512", "avx2", "baseline"):
        try:
            instruction_set(name)
        except ValueError:
            continue
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found = trained(block, Block.fused, x, grad, torch.float32)
            for what, number in exact.items():
                if number.is_floating_point():
                    floor = 1.0 if what.startswith(("the output", "the gradient of x")) else math.sqrt(pixels)
                    assert_within_budget(found[what], plain[what], number, pixels * taps, f"{name}: {what}", floor)
                else:
                    assert found[what] == number == 1  # batches counted


@pytest.mark.parametrize("mean", [30.0, 1000.0])
def test_a_large_mean_costs_the_variance_no_digits(mean):
    block, x, grad = drawn(4, 14, 14, FFN, 8, entry=True, identity=True, mean=mean)
    exact, plain = (trained(block, Block.forward, x, grad, dtype) for dtype in (torch.float64, torch.float32))
    found = trained(block, Block.fused, x, grad, torch.float32)
    for what in ("entry.running_mean", "entry.running_var"):
        assert_within_budget(found[what], plain[what], exact[what], 1, what)


def test_without_running_statistics_none_are_kept():
    block, x, grad = drawn(2, 6, 6, FFN, 8, entry=True, identity=True)
    block.norm = nn.BatchNorm2d(32, track_running_stats=False)
    found = trained(block, Block.fused, x, grad, torch.float32)
    assert not [name for name in found if name.startswith("norm.")]
    assert found["entry.num_batches_tracked"] == 1


def test_equal_steps_give_equal_bits():
    block, x, grad = drawn(3, 14, 14, FFN, 8, entry=True, identity=True)
    first, second = (trained(block, Block.fused, x, grad, torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_second_derivative_is_refused_with_what_to_do():
    block, x, _ = drawn(2, 6, 6, FFN, 8, entry=True, identity=True)
    x = x.float().requires_grad_()
    (grad,) = torch.autograd.grad(block.fused(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="reference"):
        grad.square().sum().backward()


def test_layers_that_must_be_called_are_called():
    x, norm, conv = torch.randn(2, 4, 5, 5), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
    deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    assert fuses(x, (norm,), (conv,), (deep,))
    others = (
        nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, momentum=None),
        nn.SyncBatchNorm(4), nn.BatchNorm2d(4).double(),
    )  # fmt: skip
    assert not any(fuses(x, (other,), (conv,), (deep,)) for other in others)
    assert not fuses(x.double(), (norm,), (conv,), (deep,))
    assert not fuses(x[:1, :, :1, :1], (norm,), (conv,), (deep,))
    with use_backend("reference"):
        assert not fuses(x, (norm,), (conv,), (deep,))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fuses(x, (norm,), (conv,), (deep,))
    handle = norm.register_forward_hook(lambda *_: None)
    assert not fuses(x, (norm,), (conv,), (deep,))
    handle.remove()
    assert fuses(x, (norm,), (conv,), (deep,))


def test_convolutions_of_another_form_are_called():
    x, norm, conv = torch.randn(2, 4, 5, 5), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
    for other in (nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, groups=2)):
        assert not fuses(x, (norm,), (other,), ())
    of_four = (
        dict(kernel_size=3, padding=1, groups=2), dict(kernel_size=3, groups=4),
        dict(kernel_size=2, padding=1, groups=4), dict(kernel_size=3, padding=1, groups=4, bias=False),
        dict(kernel_size=3, padding=1, groups=4, stride=2),
        dict(kernel_size=3, padding=1, groups=4, padding_mode="reflect"),
    )  # fmt: skip
    assert not any(fuses(x, (norm,), (conv,), (nn.Conv2d(4, 4, **other),)) for other in of_four)


def step(net, x):
    net.train()
    net.zero_grad()
    net(x).square().mean().backward()
    return {name: p.grad for name, p in net.named_parameters()}


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = timm.create_model("transxnet_atto", img_size=64, num_classes=10)
    for module in net.modules():
        if getattr(module, "is_layer_scale", False):
            nn.init.ones_(module.weight)  # else blocks hardly matter
    return net


def test_a_network_is_trained_as_by_plain_layers(net):
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain, exact = copy.deepcopy(net), copy.deepcopy(net).double()
    with use_backend("reference"):
        expected, right = step(plain, x), step(exact, x.double())
    found = step(net, x)
    scale = max(g.abs().max().item() for g in right.values())
    for name, grad in found.items():
        allowed = 2 * (expected[name].double() - right[name]).abs().max() + 1e-4 * scale
        assert (grad.double() - right[name]).abs().max() <= allowed, name
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer.double(), exact.get_buffer(name).double(), rtol=1e-3, atol=1e-4, msg=name)


def test_every_block_of_a_network_uses_it_twice(net, monkeypatch):
    calls = []
    for module in (d_mixer, multiscale_ffn):
        monkeypatch.setattr(module, "depthwise_block", lambda *a, **k: calls.append(a) or depthwise_block(*a, **k))
    net.train()(image(64, 64, batch=2))
    assert len(calls) == 2 * sum(len(stage.blocks) for stage in net.stages)
    calls.clear()
    net.eval()(image(64, 64))
    assert not calls


def test_frozen_norms_keep_their_statistics_while_the_rest_is_trained(net):
    for module in net.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = copy.deepcopy(dict(net.named_buffers()))
    net(image(64, 64, batch=2)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
