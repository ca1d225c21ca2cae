"""The channel mixer of a TransXNet block by panels of channels: exact for any size and instruction set, where it may
run."""

import copy

import pytest
import torch
import torch.nn.functional as F

import foveal
from foveal.ops import explain, multiscale_ffn, use_backend
from foveal.ops.multiscale_ffn import api
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_same, assert_within_budget, relative_error
from support.nets import atto, image

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
# Batch, height, width, channels, and hidden channels by kernel size: one pixel, one row, one column, a kernel larger
# than the map, channels that fill no vector or part of a panel, one kernel size, more panels than are multiplied
# together, more pixels than are, and small images that do not share out evenly among threads.
SHAPES = (
    (1, 1, 1, 3, {1: 2, 3: 1}), (2, 1, 9, 8, {7: 16}), (1, 8, 1, 24, {1: 10, 3: 10, 5: 10, 7: 10}),
    (2, 5, 7, 12, {3: 33, 9: 5}), (3, 9, 21, 16, {1: 40, 3: 8, 5: 8, 7: 8}),
    (1, 30, 31, 20, {1: 80, 3: 16, 5: 50, 7: 50}), (5, 7, 7, 33, {5: 7, 1: 70}), (0, 4, 4, 8, {3: 8}),
)  # fmt: skip


@pytest.fixture(autouse=True)
def the_processor_as_it_was():
    threads, name = torch.get_num_threads(), instruction_set()
    yield
    torch.set_num_threads(threads)
    instruction_set(name)


def tensors(shape, dtype=torch.float32):
    batch, height, width, channels, sizes = shape
    hidden, generator = sum(sizes.values()), torch.Generator().manual_seed(0)

    def draw(*sizes, spread=1.0):
        return (spread * torch.randn(sizes, generator=generator, dtype=torch.float64)).to(dtype)

    return dict(
        x=draw(batch, height, width, channels) + 2,
        norm_weight=draw(channels, spread=0.3) + 1,
        norm_bias=draw(channels, spread=0.3),
        weight1=draw(hidden, channels, spread=channels**-0.5),
        scale=draw(hidden),
        shift=draw(hidden),
        kernels=[draw(n, 1, k, k, spread=1 / k) for k, n in sizes.items()],
        kernel_biases=[draw(n) for n in sizes.values()],
        weight2=draw(channels, hidden, spread=hidden**-0.5),
        bias2=draw(channels),
    )


def by_layers(x, norm_weight, norm_bias, weight1, scale, shift, kernels, kernel_biases, weight2, bias2):
    """With PyTorch's layers, in the dtype of x."""
    y = F.group_norm(x.permute(0, 3, 1, 2), 1, norm_weight, norm_bias).permute(0, 2, 3, 1)
    hidden = (F.gelu(F.linear(y, weight1)) * scale + shift).permute(0, 3, 1, 2)
    groups = zip(hidden.split([len(k) for k in kernels], 1), kernels, kernel_biases, strict=True)
    moved = [F.conv2d(h, k, b, padding=k.shape[-1] // 2, groups=len(k)) for h, k, b in groups]
    return x + F.linear(F.gelu(hidden + torch.cat(moved, 1)).permute(0, 2, 3, 1), weight2, bias2)


def converted(call, convert):
    return {n: [convert(t) for t in v] if isinstance(v, list) else convert(v) for n, v in call.items()}


def chosen(**call):
    return explain("multiscale_ffn", **call).chosen


def terms(call):
    """How many numbers are added up to one of the output, at most."""
    return sum(call["weight1"].shape) + call["kernels"][-1].shape[-1] ** 2


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_output_is_within_the_error_budget(shape, threads):
    torch.set_num_threads(threads)
    call = tensors(shape)
    exact, plain = by_layers(**converted(call, torch.Tensor.double)), by_layers(**call)
    assert chosen(**call) == "panels"
    for name in ("avx512", "avx2", "baseline"):
        try:
            instruction_set(name)
        except ValueError:
            continue
        assert_within_budget(multiscale_ffn(**call), plain, exact, terms(call), name, floor=1.0)


@torch.no_grad()
def test_equal_calls_give_equal_bits_and_threads_differ_by_rounding(monkeypatch):
    monkeypatch.setattr("foveal.ops.native.WORK_PER_THREAD", 1)
    call = tensors((1, 14, 14, 16, {1: 40, 3: 40, 5: 40, 7: 40}))
    torch.set_num_threads(1)
    alone = multiscale_ffn(**call)
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        shared = multiscale_ffn(**call)
        assert torch.equal(multiscale_ffn(**call), shared)
        assert_same(shared, alone, terms(call))


@torch.no_grad()
def test_a_large_mean_costs_no_digits_of_the_norm():
    call = tensors((1, 40, 40, 16, {3: 16}))
    call["x"] += 1000
    exact, plain = by_layers(**converted(call, torch.Tensor.double)), by_layers(**call)
    assert_within_budget(multiscale_ffn(**call), plain, exact, terms(call))


@torch.no_grad()
def test_a_strided_map_gives_the_result_of_its_copy():
    call = tensors((2, 5, 7, 12, {1: 4, 3: 16}))
    wide = torch.full((2, 7, 5, 25), torch.nan)
    view = wide.permute(0, 2, 1, 3)[..., 1::2]
    view.copy_(call["x"])
    assert torch.equal(multiscale_ffn(**{**call, "x": view}), multiscale_ffn(**call))


@torch.no_grad()
@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_nan_and_inf_propagate_within_their_image(lost):
    call = tensors((2, 5, 5, 9, {3: 8}))
    call["x"][0, 2, 2, 8] = lost
    out = multiscale_ffn(**call)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


@torch.no_grad()
def test_packed_weights_are_kept_and_follow_changes_of_the_weights():
    net = foveal.optimize(atto("transxnet"), memory=False)
    x = image(64, 64)
    before = net(x)
    mixer = net.stages[0].blocks[0].mlp
    assert len(mixer._packed) == 1
    assert torch.equal(net(x), before)
    mixer.weights[3].mul_(2)
    changed = net(x)
    assert not torch.equal(changed, before)
    assert torch.equal(copy.deepcopy(net)(x), changed)


@torch.no_grad()
def test_the_default_device_does_not_matter():
    call = tensors((1, 5, 7, 8, {3: 16}))
    with torch.device("meta"):
        within = multiscale_ffn(**call)
    assert torch.equal(within, multiscale_ffn(**call))


@torch.no_grad()
def test_a_folded_network_gives_the_result_of_its_layers():
    net = foveal.optimize(atto("transxnet"), memory=False)
    exact = atto("transxnet").double()(image(96, 64).double())
    with use_backend("layers"):
        layers = net(image(96, 64))
    assert relative_error(net(image(96, 64)), exact) <= 2 * relative_error(layers, exact) + 1e-6


@torch.no_grad()
@pytest.mark.parametrize(
    "path", ["mlp.fc1", "mlp.fc2", "token_mixer.local_unit.squeeze", "token_mixer.local_unit.expand"]
)
def test_a_layer_with_a_hook_runs_by_itself(path):
    net = foveal.optimize(atto("transxnet"), memory=False)
    before = net(image(64, 64))
    seen = []
    net.stages[0].blocks[0].get_submodule(path).register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert relative_error(net(image(64, 64)), before) < 1e-5
    assert len(seen) == 1


def test_a_gradient_is_computed_layer_by_layer():
    call = tensors((1, 3, 4, 4, {1: 2, 3: 3}), torch.float64)
    names = [name for name in call if not isinstance(call[name], list)]
    inputs = [call[name].requires_grad_() for name in names]
    inputs += [t.requires_grad_() for name in ("kernels", "kernel_biases") for t in call[name]]

    def run(*args):
        rest = args[len(names) :]
        return multiscale_ffn(**dict(zip(names, args, strict=False)), kernels=rest[:2], kernel_biases=rest[2:])

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (torch.Tensor.double, "all tensors must be float32"),
        (lambda t: t.to("meta"), "not on a CPU"),
        (lambda t: t.clone().requires_grad_(), "a gradient is needed"),
    ],
    ids=["fp64", "meta", "gradient"],
)
def test_the_reason_against_panels_is_explained(change, reason):
    explanation = explain("multiscale_ffn", **converted(tensors((1, 3, 4, 8, {3: 8})), change))
    assert explanation.chosen == "layers"
    assert reason in explanation.reasons["panels"]


@torch.no_grad()
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_panels_do_not_run_where_another_backend_is_forced(backend):
    with use_backend(backend):
        assert chosen(**tensors((1, 3, 4, 8, {3: 8}))) == "layers"


@torch.no_grad()
def test_a_map_that_is_faster_by_layers_is_computed_layer_by_layer(monkeypatch):
    monkeypatch.setattr(api, "_LARGEST_WORK", 3 * 4 * 8 * 8)
    assert chosen(**tensors((1, 3, 4, 8, {3: 8}))) == "panels"
    assert chosen(**tensors((1, 3, 5, 8, {3: 8}))) == "layers"


@pytest.mark.parametrize("name", ["norm_weight", "norm_bias", "weight1", "scale", "shift", "weight2", "bias2"])
def test_a_wrong_shape_is_named_in_the_error(name):
    call = tensors((1, 3, 4, 8, {3: 6}))
    call[name] = call[name][..., :-1]
    with pytest.raises(ValueError, match=rf"^{name} must have shape .* got \("):
        multiscale_ffn(**call)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(kernels=[torch.zeros(6, 1, 2, 2)]), "kernels must be .* K_g odd"),
        (dict(kernels=[torch.zeros(5, 1, 3, 3)]), "kernels must together have the 6 hidden channels"),
        (dict(kernel_biases=[torch.zeros(5)]), "kernel_biases must have the shapes"),
        (dict(x=torch.zeros(3, 4, 8)), "x must be"),
    ],
)
def test_wrong_groups_are_named_in_the_error(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        multiscale_ffn(**{**tensors((1, 3, 4, 8, {3: 6})), **changes})
