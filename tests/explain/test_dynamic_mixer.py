"""Kernels, attention and energies of TransXNet's token mixer against the output of its modules, in float64."""

import concurrent.futures

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal
from foveal.errors import FovealError
from foveal.explain import watch_mixers


def make_net(dtype: torch.dtype = torch.float64, **options) -> nn.Module:
    """A small model whose kernels, tables, and running statistics are far enough from their start to matter."""
    torch.manual_seed(0)
    net = timm.create_model("transxnet_atto", num_classes=0, **options).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
        for name, parameter in net.named_parameters():
            scale = 3.0 if ".local_unit.proj" in name else 0.3  # strong enough for clearly different groups
            parameter.add_(torch.randn_like(parameter) * scale)
    return net.to(dtype)


def image(height: int, width: int) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))


def inputs_and_outputs(net: nn.Module, x: Tensor, part: str) -> tuple[Tensor, Tensor]:
    """Input and output of one module in a run of the whole network."""
    seen = []
    handle = net.get_submodule(part).register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    with torch.no_grad():
        net(x[None].to(net.stages[0].downsample.proj.weight.dtype))
    handle.remove()
    return seen[0]


BLOCKS = [(0, 0), (2, 1), (3, 0)]


@pytest.mark.parametrize("options", [{}, {"groups": (3, 2, 4, 1)}], ids=["two groups", "groups per stage"])
@pytest.mark.parametrize(("stage", "block"), BLOCKS)
def test_a_plain_convolution_with_the_kernels_gives_the_output_of_idconv(stage, block, options):
    net, x = make_net(**options), image(96, 128)
    seen = watch_mixers(net, x).kernels(stage, block)
    source, expected = inputs_and_outputs(net, x, f"stages.{stage}.blocks.{block}.token_mixer.local_unit")
    kernels, biases = torch.tensor(seen.kernels).double(), torch.tensor(seen.biases).double()
    ours = F.conv2d(source, kernels[:, None], biases, padding=3, groups=len(kernels))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())  # float32 kernels


def test_group_weights_mix_the_learned_kernels():
    net = make_net(groups=(3, 2, 2, 2))
    seen, conv = watch_mixers(net, image(64, 64)).kernels(0), net.stages[0].blocks[-1].token_mixer.local_unit
    assert seen.group_weights.shape == (3, 12, 7, 7)
    assert seen.bias_weights.shape == (3, 12)
    np.testing.assert_allclose(seen.group_weights.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(seen.bias_weights.sum(0), 1, rtol=1e-6)
    assert seen.group_weights.std() > 0.05  # the groups differ, so the next line can fail
    mixed = (seen.group_weights * conv.weight.detach().numpy()).sum(0)
    np.testing.assert_allclose(seen.kernels, mixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(96, 128), (101, 75)], ids=["rectangular", "odd size, table resized"])
@pytest.mark.parametrize(("stage", "block"), BLOCKS)
def test_attention_times_values_gives_the_output_of_osra(stage, block, size):
    net, x = make_net(), image(*size)
    part = f"stages.{stage}.blocks.{block}.token_mixer.global_unit"
    source, expected = inputs_and_outputs(net, x, part)
    unit, watched = net.get_submodule(part), watch_mixers(net, x)
    with torch.no_grad():
        values = unit.kv(unit.local_conv(unit.sr(source))).chunk(2, 1)[1][0].unflatten(0, (unit.heads, -1)).numpy()
    height, width = source.shape[2:]
    for query in [(0, 0), (height - 1, width // 2), (height // 2, width - 1)]:
        seen = watched.attention(stage, block, query)
        assert seen.weights.shape == (unit.heads, *values.shape[2:])
        np.testing.assert_allclose(seen.weights.sum((1, 2)), 1, rtol=1e-6)
        ours = np.einsum("hrc,hdrc->hd", seen.weights, values).ravel()
        np.testing.assert_allclose(ours, expected[0, :, query[0], query[1]].numpy(), rtol=1e-4, atol=1e-5)


def test_the_position_table_is_the_row_of_the_query():
    net = make_net(img_size=96)
    seen = watch_mixers(net, image(96, 96)).attention(1, 0, (2, 5))
    table = net.stages[1].position_bias.table[0, :, 2 * 12 + 5].detach().numpy()
    np.testing.assert_allclose(seen.position.reshape(len(table), -1), table, rtol=1e-6)


@pytest.mark.parametrize("stage", range(4))
def test_a_key_is_laid_back_around_the_centre_of_its_receptive_field(stage):
    """The pixels that reach one key through patch embeddings and the strided convolution are centred on its cell."""
    net, size = make_net(), 512
    x = torch.randn(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    y = x
    for i in range(stage + 1):
        y = net.stages[i].downsample.proj(y)
    unit = net.stages[stage].blocks[0].token_mixer.global_unit
    y = y[:, : y.shape[1] // 2]
    y = unit.sr[0].conv(y) if len(unit.sr) else y
    key = y.shape[2] // 2
    y[0, 0, key, key].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    weights = watch_mixers(net, x[0].detach(), [stage]).attention(stage)
    spread = weights.stride * weights.reduction
    assert weights.weights.shape[1:] == y.shape[2:]
    assert (rows.min() + rows.max()) / 2 == spread * key
    laid_back = weights.on_image().astype(float)
    np.testing.assert_allclose(laid_back.sum((1, 2)), 1, rtol=1e-5)
    cell = laid_back[:, spread * key - spread // 2 : spread * key + spread // 2, spread * key]
    np.testing.assert_allclose(cell, weights.weights[:, key, key, None] / spread**2 * np.ones(spread), rtol=1e-5)


@pytest.mark.parametrize(("stage", "block"), BLOCKS)
def test_energies_are_mean_squares_of_the_modules_outputs(stage, block):
    net, x = make_net(), image(96, 64)
    seen, mixer = watch_mixers(net, x).energies(stage, block), f"stages.{stage}.blocks.{block}.token_mixer"
    outputs = [inputs_and_outputs(net, x, f"{mixer}.{unit}")[1] for unit in ("local_unit", "global_unit")]
    ste = inputs_and_outputs(net, x, f"{mixer}.proj")[1]
    outputs.append(ste + torch.cat(outputs, 1))  # "plus the input", equation 5
    for ours, output in zip((seen.local, seen.distant, seen.enhanced), outputs, strict=True):
        np.testing.assert_allclose(ours, (output[0].numpy() ** 2).mean(0), rtol=1e-5)


def test_questions_do_not_run_the_network_and_leave_it_as_it_was():
    net, calls = make_net(torch.float32), []
    net.train()
    net.stages[1].eval()
    modes = [module.training for module in net.modules()]
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    watched = watch_mixers(net, image(96, 64))
    for module in (net, *net.stages, *(stage.blocks[0] for stage in net.stages)):
        module.register_forward_pre_hook(lambda module, _: calls.append(module))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = watched.attention(2, 0, (1, 1))
    watched.kernels(2, 0)
    watched.energies(2, 0)
    np.testing.assert_array_equal(rounded.weights, watched.attention(2, 0, (1, 1)).weights)
    assert calls == []
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert not net.stages[0].blocks[0].token_mixer._forward_pre_hooks


def test_a_pixel_is_answered_by_the_nearest_query():
    watched = watch_mixers(make_net(), image(96, 64))
    assert watched.query_at(2, (40, 23)) == (3, 1)
    assert watched.attention(2, -1, watched.query_at(2, (95, 63))).query == (5, 3)


def test_a_network_in_bfloat16_gives_weights_in_float32():
    seen = watch_mixers(make_net(torch.bfloat16), image(96, 64))
    weights = seen.attention(1).weights
    assert weights.dtype == seen.kernels(1).kernels.dtype == seen.energies(1).local.dtype == np.float32
    np.testing.assert_allclose(weights.sum((1, 2)), 1, rtol=1e-6)


def test_what_is_not_there_gets_a_sentence():
    net = make_net(torch.float32)
    with pytest.raises(FovealError, match=r"Only TransXNet .* this is a ResNet"):
        watch_mixers(timm.create_model("resnet10t"), image(64, 64))
    with pytest.raises(FovealError, match="folded for inference"):
        watch_mixers(foveal.optimize(net, memory=False), image(64, 64))
    watched = watch_mixers(net, image(64, 64), stages=[1])
    with pytest.raises(FovealError, match=r"stages\[2\] was not watched"):
        watched.kernels(2)
    with pytest.raises(FovealError, match="outside the token map of 8 x 8"):
        watched.attention(1, 0, (8, 0))


def test_a_question_leaves_alone_what_another_thread_keeps_at_that_moment():
    """A run of the network by one thread is stopped in the middle, and another thread asks about an earlier run."""
    net, x, other = make_net(), image(64, 64), image(64, 64).flip(2)
    expected, earlier = watch_mixers(net, x).energies(0, 0), watch_mixers(net, other)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def ask(*_):
            if not asked:  # the question does not run the network, and so not this hook
                asked.append(pool.submit(earlier.energies, 0, 0).result(60))

        asked: list = []
        handle = net.stages[1].register_forward_pre_hook(ask)
        found = watch_mixers(net, x)
        handle.remove()
    np.testing.assert_array_equal(found.energies(0, 0).enhanced, expected.enhanced)
    np.testing.assert_array_equal(asked[0].enhanced, earlier.energies(0, 0).enhanced)
    assert np.abs(asked[0].enhanced - expected.enhanced).max() > 0


def test_several_threads_may_ask_about_a_network_in_training_mode():
    """Each question sets evaluation mode for a moment, and none may take another's for the network's own."""
    net = make_net().train()
    watched = watch_mixers(net, image(64, 64))
    expected = watched.energies(0, 0).enhanced
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: watched.energies(0, 0), range(200)):
            np.testing.assert_array_equal(found.enhanced, expected)
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_branches_of_other_widths_are_those_of_the_mixer(share):
    net, x = make_net(attention_ratio=share), image(64, 64)
    seen = watch_mixers(net, x)
    for part, energy in (("local_unit", seen.energies(1, 0).local), ("global_unit", seen.energies(1, 0).distant)):
        _, output = inputs_and_outputs(net, x, f"stages.1.blocks.0.token_mixer.{part}")
        np.testing.assert_allclose(energy, output[0].square().mean(0).numpy(), rtol=1e-5)
