"""Input-dependent depthwise convolution in one call: exact for any size and instruction set, where it may run."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

import foveal
from foveal.ops import explain, idconv, use_backend
from foveal.ops.native import instruction_set, why_unavailable
from support.accuracy import assert_within_budget
from support.nets import atto, image

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
# Batch, height, width, channels, squeezed channels, groups, kernel: one pixel, maps smaller than the kernel, cells that
# overlap, channels that fill no vector or part of a panel, one group, and several panels for several threads.
SHAPES = (
    (1, 1, 1, 3, 2, 2, 3), (2, 1, 9, 8, 4, 2, 7), (1, 8, 5, 24, 10, 3, 7), (2, 14, 14, 40, 10, 3, 7),
    (3, 9, 10, 17, 5, 4, 5), (1, 13, 20, 70, 18, 1, 7), (5, 7, 7, 33, 33, 2, 1), (0, 4, 4, 8, 2, 2, 3),
)  # fmt: skip


@pytest.fixture(autouse=True)
def the_processor_as_it_was():
    threads, name = torch.get_num_threads(), instruction_set()
    yield
    torch.set_num_threads(threads)
    instruction_set(name)


def tensors(shape, dtype=torch.float32):
    batch, height, width, channels, squeezed, groups, kernel = shape
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes, spread=1.0):
        return (spread * torch.randn(sizes, generator=generator, dtype=torch.float64)).to(dtype)

    return dict(
        x=draw(batch, height, width, channels) + 1,
        weight1=draw(squeezed, channels, spread=channels**-0.5),
        bias1=draw(squeezed),
        weight2=draw(groups * channels, squeezed, spread=squeezed**-0.5),
        bias2=draw(groups * channels),
        learned=draw(groups, kernel * kernel + 1, channels, spread=1 / kernel),
    )


def one_by_one(x, weight1, bias1, weight2, bias2, learned):
    """Image by image and kernel by kernel, in the dtype of x."""
    groups, positions, channels = learned.shape
    side, outputs = math.isqrt(positions), []

    def mixed(cells, learned):  # (C, n, n) and (G, n * n, C) to (C, n * n)
        scores = weight2 @ F.gelu(weight1 @ cells.flatten(1) + bias1[:, None]) + bias2[:, None]
        shares = torch.softmax(scores.view(groups, channels, -1), 0)
        return (shares * learned.transpose(1, 2)).sum(0)

    for one in x.permute(0, 3, 1, 2):
        kernels = mixed(F.adaptive_avg_pool2d(one, side), learned[:, :-1]).view(channels, 1, side, side)
        biases = mixed(one.mean((1, 2), keepdim=True), learned[:, -1:])[:, 0]
        outputs.append(F.conv2d(one, kernels, biases, padding=side // 2, groups=channels).permute(1, 2, 0))
    return torch.stack(outputs) if outputs else torch.zeros_like(x)


def chosen(**call):
    return explain("idconv", **call).chosen


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_output_is_within_the_error_budget(shape, threads, monkeypatch):
    monkeypatch.setattr("foveal.ops.native.WORK_PER_THREAD", 1)
    torch.set_num_threads(threads)
    call = tensors(shape)
    exact, plain = one_by_one(**{n: t.double() for n, t in call.items()}), one_by_one(**call)
    reduction = shape[-1] ** 2 + shape[3] + shape[4]
    assert chosen(**call) == "panels"
    for name in ("avx512", "avx2", "baseline"):
        try:
            instruction_set(name)
        except ValueError:
            continue
        assert_within_budget(idconv(**call), plain, exact, reduction, name, floor=1.0)
    with use_backend("layers"):
        assert_within_budget(idconv(**call), plain, exact, reduction, "layers", floor=1.0)


@torch.no_grad()
def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr("foveal.ops.native.WORK_PER_THREAD", 1)
    call = tensors((3, 9, 12, 70, 9, 2, 7))
    torch.set_num_threads(1)
    alone = idconv(**call)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert torch.equal(idconv(**call), alone)


@torch.no_grad()
def test_a_strided_map_gives_the_result_of_its_copy():
    call = tensors((2, 5, 7, 12, 3, 2, 3))
    for view in (
        torch.full((2, 5, 7, 30), torch.nan)[..., 9:21],
        torch.full((2, 7, 5, 25), torch.nan).transpose(1, 2)[..., 1::2],
    ):
        view.copy_(call["x"])
        assert torch.equal(idconv(**{**call, "x": view}), idconv(**call))


@torch.no_grad()
@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_nan_and_inf_propagate_within_their_image_and_channel_or_further(lost):
    call = tensors((2, 7, 7, 9, 3, 2, 3))
    call["x"][0, 3, 3, 8] = lost
    out = idconv(**call)
    assert out[0, 2:5, 2:5, 8].isnan().all()
    assert out[1].isfinite().all()


@torch.no_grad()
def test_packed_weights_are_kept_and_follow_changes_of_the_weights():
    net = foveal.optimize(atto("transxnet"), memory=False)
    x = image(64, 64)
    before = net(x)
    unit = net.stages[0].blocks[0].token_mixer.local_unit
    assert len(unit._packed) == 1
    assert torch.equal(net(x), before)
    unit.learned.mul_(2)
    changed = net(x)
    assert not torch.equal(changed, before)
    assert torch.equal(copy.deepcopy(net)(x), changed)


def test_a_gradient_is_computed_layer_by_layer():
    call = {name: t.requires_grad_() for name, t in tensors((2, 4, 5, 3, 2, 2, 3), torch.float64).items()}
    assert torch.autograd.gradcheck(lambda *args: idconv(**dict(zip(call, args, strict=True))), tuple(call.values()))


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
    explanation = explain("idconv", **{n: change(t) for n, t in tensors((1, 3, 4, 8, 2, 2, 3)).items()})
    assert explanation.chosen == "layers"
    assert reason in explanation.reasons["panels"]


@torch.no_grad()
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_panels_do_not_run_where_another_backend_is_forced(backend):
    with use_backend(backend):
        assert chosen(**tensors((1, 3, 4, 8, 2, 2, 3))) == "layers"


@pytest.mark.parametrize("name", ["weight1", "weight2", "bias2", "learned"])
def test_a_wrong_shape_is_named_in_the_error(name):
    call = tensors((1, 3, 4, 8, 3, 2, 3))
    call[name] = call[name][..., :-1]
    with pytest.raises(ValueError, match=rf"^{name} must (be|have shape) .* got \("):
        idconv(**call)


def test_an_even_kernel_is_refused():
    call = tensors((1, 3, 4, 8, 3, 2, 3))
    with pytest.raises(ValueError, match="with K odd"):
        idconv(**{**call, "learned": torch.zeros(2, 5, 8)})
