"""The channel mixer of a TransNeXt block by bands of rows: exact for any size and instruction set, where it may run."""

import copy

import pytest
import torch
import torch.nn.functional as F

import foveal
from foveal.ops import convolutional_glu, explain, use_backend
from foveal.ops.convolutional_glu import api
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_within_budget, relative_error
from support.nets import atto, image

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
NAMES = ("norm_weight", "norm_bias", "weight1", "bias1", "kernel", "kernel_bias", "weight2", "bias2")
# Batch, height, width, channels, hidden channels: one pixel, one row, one column, channels that fill no vector or part
# of a panel, rows taken one by one and together, and images that do not share out evenly among threads.
SHAPES = (
    (1, 1, 1, 3, 2), (2, 1, 9, 8, 16), (1, 7, 1, 24, 40), (2, 5, 7, 12, 20), (3, 9, 60, 16, 33), (1, 4, 30, 72, 48),
    (2, 14, 14, 40, 64), (5, 7, 7, 9, 17), (0, 4, 4, 8, 8),
)  # fmt: skip


@pytest.fixture(autouse=True)
def the_processor_as_it_was():
    threads, name = torch.get_num_threads(), instruction_set()
    yield
    torch.set_num_threads(threads)
    instruction_set(name)


def tensors(shape, dtype=torch.float32):
    batch, height, width, channels, hidden = shape
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes, spread=1.0):
        return (spread * torch.randn(sizes, generator=generator, dtype=torch.float64)).to(dtype)

    return dict(
        x=draw(batch, height, width, channels) + 2,
        norm_weight=draw(channels, spread=0.3) + 1,
        norm_bias=draw(channels, spread=0.3),
        weight1=draw(2 * hidden, channels, spread=channels**-0.5),
        bias1=draw(2 * hidden),
        kernel=draw(hidden, 1, 3, 3, spread=1 / 3),
        kernel_bias=draw(hidden),
        weight2=draw(channels, hidden, spread=hidden**-0.5),
        bias2=draw(channels),
    )


def by_layers(x, norm_weight, norm_bias, weight1, bias1, kernel, kernel_bias, weight2, bias2):
    """With PyTorch's layers, in the dtype of x."""
    y = F.linear(F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, 1e-6), weight1, bias1)
    gate, value = y.chunk(2, -1)
    gate = F.conv2d(gate.permute(0, 3, 1, 2), kernel, kernel_bias, padding=1, groups=len(kernel))
    return x + F.linear(F.gelu(gate.permute(0, 2, 3, 1)) * value, weight2, bias2)


def chosen(**call):
    return explain("convolutional_glu", **call).chosen


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_output_is_within_the_error_budget(shape, threads):
    torch.set_num_threads(threads)
    call = tensors(shape)
    exact, plain = by_layers(**{n: t.double() for n, t in call.items()}), by_layers(**call)
    assert chosen(**call) == "bands"
    for name in ("avx512", "avx2", "baseline"):
        try:
            instruction_set(name)
        except ValueError:
            continue
        assert_within_budget(convolutional_glu(**call), plain, exact, 9 * shape[-2] + 3 * shape[-1], name, floor=1.0)


@torch.no_grad()
def test_threads_and_bands_do_not_change_a_bit():
    call = tensors((3, 9, 12, 16, 33))
    torch.set_num_threads(1)
    alone = convolutional_glu(**call)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert torch.equal(convolutional_glu(**call), alone)


@torch.no_grad()
def test_a_strided_map_gives_the_result_of_its_copy():
    call = tensors((2, 5, 7, 12, 20))
    wide = torch.full((2, 7, 5, 25), torch.nan)
    view = wide.permute(0, 2, 1, 3)[..., 1::2]
    view.copy_(call["x"])
    assert torch.equal(convolutional_glu(**{**call, "x": view}), convolutional_glu(**call))


@torch.no_grad()
@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_nan_and_inf_propagate(lost):
    call = tensors((1, 5, 5, 8, 8))
    call["x"][0, 2, 2, 3] = lost
    assert convolutional_glu(**call)[0, 1:4, 1:4].isnan().all()


@torch.no_grad()
def test_packed_weights_are_kept_and_follow_changes_of_the_weights():
    net = foveal.optimize(atto(), memory=False)
    x = image(64, 64)
    before = net(x)
    mixer = net.stages[0].blocks[0].mlp
    assert len(mixer._packed) == 1
    assert torch.equal(net(x), before)
    mixer.fc2.weight.mul_(2)
    changed = net(x)
    assert not torch.equal(changed, before)
    assert torch.equal(copy.deepcopy(net)(x), changed)


@torch.no_grad()
def test_a_folded_network_gives_the_result_of_its_layers():
    net = foveal.optimize(atto(), memory=False)
    exact = atto().double()(image(96, 64).double())
    with use_backend("layers"):
        layers = net(image(96, 64))
    assert relative_error(net(image(96, 64)), exact) <= 2 * relative_error(layers, exact) + 1e-6


def test_a_gradient_is_computed_layer_by_layer():
    call = {name: t.requires_grad_() for name, t in tensors((1, 3, 4, 8, 8), torch.float64).items()}
    assert torch.autograd.gradcheck(
        lambda *args: convolutional_glu(**dict(zip(call, args, strict=True))), tuple(call.values())
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda call: {n: t.double() for n, t in call.items()}, "all tensors must be float32"),
        (lambda call: {n: t.to("meta") for n, t in call.items()}, "not on a CPU"),
        (lambda call: {n: t.clone().requires_grad_() for n, t in call.items()}, "a gradient is needed"),
    ],
    ids=["fp64", "meta", "gradient"],
)
def test_the_reason_against_bands_is_explained(change, reason):
    explanation = explain("convolutional_glu", **change(tensors((1, 3, 4, 8, 8))))
    assert explanation.chosen == "layers"
    assert reason in explanation.reasons["bands"]


@torch.no_grad()
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_bands_do_not_run_where_another_backend_is_forced(backend):
    with use_backend(backend):
        assert chosen(**tensors((1, 3, 4, 8, 8))) == "layers"


@torch.no_grad()
def test_weights_that_do_not_fit_the_cache_are_multiplied_layer_by_layer(monkeypatch):
    monkeypatch.setattr(api, "_LARGEST_WEIGHTS", 3 * 8 * 8 * 4)
    assert chosen(**tensors((1, 3, 4, 8, 8))) == "bands"
    assert chosen(**tensors((1, 3, 4, 8, 9))) == "layers"


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_shape_is_named_in_the_error(name):
    call = tensors((1, 3, 4, 8, 6))
    call[name] = call[name][..., :-1]
    with pytest.raises(ValueError, match=rf"^(weight1|{name}) must have shape .* got \("):
        convolutional_glu(**call)
