"""TransXNet's blocks compute several layers in one, but not those that somebody changed or watches."""

import copy

import pytest
import torch
from timm.models._features_fx import GraphExtractNet
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from foveal.models.folded.transnext import FoldedBlock as FoldedTransNeXtBlock
from foveal.models.folded.transxnet import FoldedBlock
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.depthwise import DepthwiseConv
from foveal.models.transxnet import Block
from foveal.ops.modules import is_plain_module, is_plain_sequence
from support.nets import atto, lively

DIM = 16
either_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])


@pytest.fixture
def block():
    torch.manual_seed(0)
    return lively(Block(DIM, DMixer(DIM, 2, 2, 2, 0.0, 0.0), 4, 0.0, 0.0)).train()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, DIM, 6, 6, generator=generator), torch.randn(1, 2, 36, 9, generator=generator)


def in_double(block, inputs):
    """The result of the layers, for no kernel takes float64."""
    return copy.deepcopy(block).double()(*(t.double() for t in inputs)).float()


class LowRank(nn.Module):
    """A layer plus a trained product of low rank, with the weight and bias of the layer as PEFT's."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down = nn.Conv2d(base.in_channels, 2, 1, bias=False)
        self.up = nn.Conv2d(2, base.out_channels, 1, bias=False)

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Halved(nn.Conv2d):
    """A layer that computes with other weights than it has, as in training for quantization."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / 2, self.bias)


def halved(conv):
    new = Halved(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None)
    new.load_state_dict(conv.state_dict())
    return new


CONVOLUTIONS = [("mlp.fc1", 0), ("mlp.fc2", 0), ("token_mixer.proj", 3), ("token_mixer.proj", 6)]
ACTIVATIONS = [("mlp.fc1", 1), ("token_mixer.proj", 1), ("token_mixer.proj", 4)]


@pytest.mark.parametrize(("name", "index"), CONVOLUTIONS)
def test_a_low_rank_adapter_is_trained(block, inputs, name, index):
    layers = block.get_submodule(name)
    layers[index] = LowRank(layers[index])
    torch.testing.assert_close(y := block(*inputs), in_double(block, inputs), rtol=1e-3, atol=1e-3)
    weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
    (y * weight).sum().backward()
    assert layers[index].down.weight.grad.norm() > 0


@pytest.mark.parametrize(("name", "index"), CONVOLUTIONS)
def test_a_subclass_of_a_layer_is_called(block, inputs, name, index):
    layers = block.get_submodule(name)
    layers[index] = halved(layers[index])
    torch.testing.assert_close(block(*inputs), in_double(block, inputs), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.GELU("tanh"), nn.Hardswish(), nn.Identity()], ids=str)
@pytest.mark.parametrize(("name", "index"), ACTIVATIONS)
def test_another_activation_is_applied(block, inputs, name, index, act):
    block.get_submodule(name)[index] = act
    torch.testing.assert_close(block(*inputs), in_double(block, inputs), rtol=1e-4, atol=1e-4)


NAMES = ("mlp.fc1", "mlp.fc1.0", "mlp.fc1.1", "mlp.dwconv", "mlp.norm", "mlp.fc2", "mlp.fc2.0", "mlp.fc2.1", "mlp.drop",
         "token_mixer.proj", "token_mixer.proj.0", "token_mixer.proj.1", "token_mixer.proj.3", "token_mixer.proj.7",
         "token_mixer.proj_drop", "layer_scale_1", "layer_scale_2")  # fmt: skip


@either_mode
@pytest.mark.parametrize("name", NAMES)
def test_every_hook_on_a_layer_or_container_runs(block, inputs, name, training):
    block.train(training)
    layer, ran = block.get_submodule(name), []
    hooks = {
        "before": layer.register_forward_pre_hook, "after": layer.register_forward_hook,
        "backward before": layer.register_full_backward_pre_hook, "backward after": layer.register_full_backward_hook,
    }  # fmt: skip
    for kind, register in hooks.items():
        handle = register(lambda *_, kind=kind: ran.append(kind))
        block(inputs[0].clone().requires_grad_(), inputs[1]).sum().backward()
        handle.remove()
    assert list(dict.fromkeys(ran)) == list(hooks)  # dropout runs twice


@either_mode
@pytest.mark.parametrize("name", NAMES)
def test_a_forward_set_on_a_layer_is_called(block, inputs, name, training):
    layer, ran = block.train(training).get_submodule(name), []
    forward = layer.forward
    layer.forward = lambda *args: ran.append(name) or forward(*args)
    block(*inputs)
    assert set(ran) == {name}


@either_mode
def test_a_hook_on_all_modules_sees_every_layer(block, inputs, training):
    ran = []
    handle = register_module_forward_hook(lambda module, *_: ran.append(module))
    try:
        block.train(training)(*inputs)
    finally:
        handle.remove()
    assert all(block.get_submodule(name) in ran for name in NAMES)


def test_running_statistics_that_are_switched_off_later_stay(block, inputs):
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    block(*inputs)
    assert all(torch.equal(buffer, before[name]) for name, buffer in block.named_buffers())


@either_mode
def test_layer_scales_and_the_enhancer_can_be_replaced(block, inputs, training):
    block.layer_scale_1, block.layer_scale_2 = nn.Identity(), nn.Identity()
    block.train(training)
    torch.testing.assert_close(block(*inputs), in_double(block, inputs), rtol=1e-4, atol=1e-4)
    for other in (nn.Sequential(nn.Identity()), nn.Sequential(), nn.Identity()):
        block.token_mixer.proj = other
        torch.testing.assert_close(block(*inputs), in_double(block, inputs), rtol=1e-4, atol=1e-4)


def test_a_trace_for_features_counts_no_batch_and_has_the_layers():
    torch.manual_seed(0)
    net = lively(atto("transxnet")).train()
    traced = GraphExtractNet(net, ["stages.3"])
    counts = [b for name, b in traced.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(count == 0 for count in counts)
    traced.train()(torch.randn(2, 3, 64, 64))
    mlp = {n: b for n, b in traced.named_buffers() if "mlp" in n and n.endswith("num_batches_tracked")}
    assert mlp
    assert all(count == 1 for count in mlp.values())


@pytest.mark.parametrize("name", ["norm", "fc1", "fc2"])
def test_hooks_and_forwards_of_a_folded_ffn_run(block, inputs, name):
    folded, ran = FoldedBlock(block.eval(), torch.float32), []
    layer = getattr(folded.mlp, name)
    with torch.no_grad():
        expected = folded(*inputs)
        layer.register_forward_hook(lambda *_: ran.append("hook"))
        torch.testing.assert_close(folded(*inputs), expected)
        layer._forward_hooks.clear()
        forward = layer.forward
        layer.forward = lambda *args, **kwargs: ran.append("forward") or forward(*args, **kwargs)
        torch.testing.assert_close(folded(*inputs), expected)
    assert ran == ["hook", "forward"]


def test_hooks_on_the_norm_of_a_folded_glu_run():
    torch.manual_seed(0)
    block, ran = lively(atto("transnext")).eval().stages[0].blocks[0], []
    folded = FoldedTransNeXtBlock(block, torch.float32)
    folded.mlp.fc1.norm.register_forward_hook(lambda *_: ran.append("norm"))
    with torch.no_grad():
        folded(torch.randn(1, 8, 8, folded.mlp.fc2.weight.shape[0]))
    assert ran == ["norm"]


def test_a_plain_module_is_exactly_of_its_kind():
    conv = nn.Conv2d(4, 4, 1)
    assert is_plain_module(nn.Conv2d, conv)
    assert is_plain_module(nn.GELU, nn.GELU(), nn.GELU())
    assert not is_plain_module(nn.Conv2d, conv, DepthwiseConv(4, 3))
    assert not is_plain_module(nn.Conv2d, None)
    assert not is_plain_module(nn.GELU, nn.GELU("tanh"))
    assert not is_plain_module(nn.Conv2d, nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)))
    layers = nn.Sequential(conv, nn.GELU())
    assert is_plain_sequence(layers, nn.Conv2d, nn.GELU)
    assert not is_plain_sequence(layers, nn.Conv2d)
    assert not is_plain_sequence(layers, nn.GELU, nn.Conv2d)
    assert not is_plain_sequence(nn.ModuleList(layers), nn.Conv2d, nn.GELU)
