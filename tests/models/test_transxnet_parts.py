"""TransXNet's modules compared with plain code written from the formulas, in double precision."""

import pytest
import torch
from torch import nn

from foveal.models.layers import osra
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.idconv import IDConv
from foveal.models.layers.layer_scale import LayerScale
from foveal.models.layers.multiscale_ffn import MultiScaleDWConv, MultiScaleFFN
from foveal.models.layers.osra import OSRA
from foveal.models.layers.position_table import PositionTable
from support import plain_transxnet as plain
from support.accuracy import assert_same
from support.nets import atto, lively

ROUNDINGS = 100_000


def ready(module: nn.Module, training: bool) -> tuple[nn.Module, dict]:
    """A module in double precision with non-trivial parameters, and a copy of its state for the plain form."""
    module = lively(module.double()).train(training)
    return module, {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_statistics(module, state):
    for name, buffer in module.named_buffers():
        assert_same(buffer.double(), state[name].double(), ROUNDINGS, name)


either_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
maps = pytest.mark.parametrize("size", [(7, 7), (5, 11), (3, 2), (1, 1)], ids=str)


def draw(channels, size):
    return torch.randn(3, channels, *size, dtype=torch.float64)


@either_mode
@maps
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_idconv(groups, size, training):
    module, state = ready(IDConv(8, groups), training)
    x = draw(8, size)
    assert_same(module(x), plain.idconv(state, x, training), ROUNDINGS)
    assert_statistics(module, state)


def test_idconv_updates_its_statistics_twice_per_step():
    """First for the pooled map of the kernels, then for the global average of the bias."""
    module, state = ready(IDConv(8, 2), True)
    x = draw(8, (9, 9))
    squeeze = module.proj[0].conv.weight.detach()
    expected = state["proj.0.bn.running_mean"]
    for size in (7, 1):
        batch = nn.functional.conv2d(nn.functional.adaptive_avg_pool2d(x, size), squeeze)
        expected = 0.9 * expected + 0.1 * batch.mean((0, 2, 3))
    module(x)
    assert module.proj[0].bn.num_batches_tracked == 2
    assert_same(module.proj[0].bn.running_mean, expected, ROUNDINGS)


@either_mode
@maps
@pytest.mark.parametrize(("heads", "sr"), [(1, 8), (2, 4), (4, 2), (2, 1)])
def test_osra(heads, sr, size, training):
    module, state = ready(OSRA(8, heads, sr), training)
    x = draw(8, size)
    keys = -(-size[0] // sr) * -(-size[1] // sr)
    table = torch.randn(1, heads, size[0] * size[1], keys, dtype=torch.float64)
    assert_same(module(x, table), plain.osra(state, x, table, training), ROUNDINGS)
    assert_statistics(module, state)


@either_mode
@pytest.mark.parametrize("dim", [16, 144])
def test_squeezed_token_enhancer(dim, training):
    mixer = DMixer(dim, 2, 2, 2, 0.0, 0.0)
    module, state = ready(mixer.proj, training)
    x = draw(dim, (5, 4))
    assert state["3.weight"].shape[0] == max(16, dim // 8)
    assert_same(module(x) + x, plain.token_enhancer(state, x, training), ROUNDINGS)
    assert_statistics(module, state)


@either_mode
@pytest.mark.parametrize("dim", [8, 10])
@pytest.mark.parametrize("ratio", [4, 3.3])
def test_multi_scale_ffn(ratio, dim, training):
    module, state = ready(MultiScaleFFN(dim, ratio), training)
    x = draw(dim, (6, 5))
    assert_same(module(x), plain.multi_scale_ffn(state, x, training), ROUNDINGS)
    assert_statistics(module, state)


def test_the_first_scale_takes_the_remaining_channels():
    module = MultiScaleDWConv(27)
    assert [conv.weight.shape[0] for conv in module.proj] == [9, 6, 6, 6]
    assert [conv.kernel_size for conv in module.proj] == [(1, 1), (3, 3), (5, 5), (7, 7)]


@either_mode
def test_the_mixer_convolves_the_first_half_and_attends_with_the_second(training):
    """The first half of the channels is convolved, the second half attends; both pass through the token enhancer."""
    module, state = ready(DMixer(16, 2, 2, 2, 0.0, 0.0), training)
    x, table = draw(16, (4, 6)), torch.randn(1, 2, 24, 6, dtype=torch.float64)
    local = plain.idconv(plain.part(state, "local_unit"), x[:, :8], training)
    distant = plain.osra(plain.part(state, "global_unit"), x[:, 8:], table, training)
    expected = plain.token_enhancer(plain.part(state, "proj"), torch.cat([local, distant], 1), training)
    assert_same(module(x, table), expected, ROUNDINGS)


def test_layer_scale_has_a_weight_and_a_bias_per_channel():
    module, state = ready(LayerScale(6), False)
    x = draw(6, (3, 4))
    expected = x * state["weight"].reshape(6, 1, 1) + state["bias"].reshape(6, 1, 1)
    assert_same(module(x), expected, 10)


@either_mode
def test_a_complete_block_equals_the_plain_form(training):
    block = atto("transxnet").stages[1].blocks[0]
    module, state = ready(block, training)
    x, table = draw(48, (8, 4)), torch.randn(1, 2, 32, 2, dtype=torch.float64)
    assert_same(module(x, table), plain.block(state, x, table, training), ROUNDINGS)
    assert_statistics(module, state)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_with_a_learned_bias_has_its_formula_s_output_and_gradients(heads):
    shapes = dict(q=(2, heads, 12, 8), k=(2, heads, 6, 8), v=(2, heads, 6, 8), bias=(1, heads, 12, 6))
    exact = {name: torch.randn(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}
    found = {name: tensor.detach().float().requires_grad_() for name, tensor in exact.items()}
    grad = torch.randn(2, heads, 12, 8, dtype=torch.float64)
    scores = torch.einsum("bhqd,bhkd->bhqk", exact["q"], exact["k"]) / 8**0.5 + exact["bias"]
    expected = torch.einsum("bhqk,bhkd->bhqd", scores.exp() / scores.exp().sum(-1, keepdim=True), exact["v"])
    actual = osra._attend(**found, dropout_p=0.0)
    expected.backward(grad)
    actual.backward(grad.float())
    assert_same(actual.detach(), expected.detach().float(), 100, "the output")
    for name in shapes:
        assert_same(found[name].grad, exact[name].grad.float(), 100, name)


def test_dropout_of_attention_drops_probabilities():
    q, v = torch.zeros(1, 1, 4, 8), torch.ones(1, 1, 4000, 8)
    y = osra._attend(q, torch.zeros(1, 1, 4000, 8), v, torch.zeros(1, 1, 4, 4000, requires_grad=True), 0.5)
    assert 0.9 < y.mean() < 1.1
    assert len(y[..., 0].unique()) == 4  # each query loses keys of its own


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (12, 4)], ids=str)
def test_the_position_table_is_resized_as_an_image(size):
    table = PositionTable(2, (8, 8), 4).double()
    with torch.no_grad():
        table.table.normal_()
    expected = plain.table_for(table.table, size, 4)
    assert expected.shape[2:] == (size[0] * size[1], -(-size[0] // 4) * -(-size[1] // 4))
    assert torch.equal(table(torch.zeros(1, 1, *size)), expected)


def test_feature_norms_are_group_norms_with_one_group():
    net = atto("transxnet", features_only=True, feature_norm=True).double()
    state = net.model.state_dict()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    raw = plain.features(state, x)
    for i, found in enumerate(net(x)):
        expected = plain.group_norm(state, f"stages.{i}.feature_norm", raw[i])
        assert_same(found, expected, ROUNDINGS)
