"""New models are initialised as in the authors' code, and reproducibly for a given seed."""

import math

import pytest
import timm
import torch
from torch import nn

from support.checkpoints import same_state, snapshot


@pytest.fixture(scope="module")
def transnext():
    torch.manual_seed(0)
    return timm.create_model("transnext_atto")


@pytest.fixture(scope="module")
def transxnet():
    torch.manual_seed(0)
    return timm.create_model("transxnet_atto")


def assert_spread(tensors, std):
    """The sample standard deviation is within five standard errors of `std`, and the mean within five of 0."""
    values = torch.cat([t.detach().flatten() for t in tensors])
    error = 1 / math.sqrt(2 * len(values))
    assert abs(values.std().item() / std - 1) < 5 * error
    assert abs(values.mean().item()) < 5 * std / math.sqrt(len(values))


def named(net, ending):
    return [p for name, p in net.named_parameters() if name.endswith(ending)]


def test_linear_weights_have_std_002_and_zero_bias(transnext):
    layers = [m for m in transnext.modules() if isinstance(m, nn.Linear)]
    assert_spread([m.weight for m in layers], 0.02)
    assert not any(m.bias.any() for m in layers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_half_precision_initialisation_has_no_outliers(name, dtype):
    """Sampled directly in half precision, one weight in a few hundred would be a hundred standard deviations away."""
    torch.manual_seed(0)
    weights = named(timm.create_model(name, dtype=dtype), "q.weight")
    assert {w.dtype for w in weights} == {dtype}
    assert_spread([w.float() for w in weights], 0.02)
    assert max(w.abs().max().item() for w in weights) < 6 * 0.02


def test_convolution_weights_are_scaled_by_fan_out(transnext):
    layers = [m for m in transnext.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) > 10
    for m in layers:
        fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels / m.groups
        assert_spread([m.weight], math.sqrt(2 / fan_out))
        assert not m.bias.any()


def test_norms_start_as_the_identity(transnext, transxnet):
    for net in (transnext, transxnet):
        norms = [m for m in net.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d | nn.GroupNorm)]
        assert len(norms) > 10
        assert all((m.weight == 1).all() and not m.bias.any() for m in norms)


def test_attention_starts_at_the_scale_of_the_paper(transnext):
    temperatures = torch.cat([t.flatten() for t in named(transnext, ".temperature")])
    torch.testing.assert_close(nn.functional.softplus(temperatures), torch.full_like(temperatures, 1 / 0.24))


def test_embeddings_tokens_and_local_biases_have_the_std_of_the_paper(transnext):
    assert_spread(named(transnext, ".query_embedding"), 0.02)
    assert_spread(named(transnext, ".learnable_tokens"), 0.02)
    assert_spread(named(transnext, ".relative_pos_bias_local"), 0.0004)
    assert not any(b.any() for b in named(transnext, ".learnable_bias"))


def test_tables_start_at_zero_and_layer_scales_near_zero(transxnet):
    assert not any(t.any() for t in named(transxnet, ".table"))
    scales = [p for name, p in transxnet.named_parameters() if "layer_scale" in name]
    assert all((p == 1e-5).all() if p.ndim == 4 else not p.any() for p in scales)


@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_the_same_seed_gives_the_same_model(name):
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(snapshot(timm.create_model(name, img_size=64)))
    assert same_state(states[0], states[1])
    assert not same_state(states[0], states[2])


@pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])
def test_init_weights_works_after_the_meta_device(name):
    """As for large models: create on the meta device, `to_empty` on a real device, then initialise."""
    with torch.device("meta"):
        net = timm.create_model(name, img_size=64, device="meta")
    net = net.to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.fill_(7)
    torch.manual_seed(5)
    net.init_weights()
    assert all(not (p == 7).any() for p in net.parameters())
    assert not [n for n, b in net.named_buffers() if (b == 7).any()]
