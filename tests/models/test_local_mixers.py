"""What TransXNet's table VII puts in the place of IDConv: layers by plain forms, networks by the paper's words."""

from functools import cache

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal
from foveal.errors import FovealError
from foveal.explain import watch_mixers
from foveal.models import Count
from foveal.models.folded.transxnet import FoldedBlock, PlainBlock
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.dyconv import DyConv
from foveal.models.layers.dynamic_depthwise import DynamicDepthwiseConv
from foveal.models.layers.local_mixers import LOCAL_MIXERS, LocalWindowAttention
from support.accuracy import assert_same
from support.nets import SHALLOW, assert_a_step_lowers_the_loss, atto, image, lively

ROUNDINGS = 100_000
OTHERS = [name for name in LOCAL_MIXERS if name != "idconv"]
every_other = pytest.mark.parametrize("mixer", OTHERS)
maps = pytest.mark.parametrize("size", [(7, 7), (10, 17), (3, 2), (1, 1)], ids=str)


@cache
def counted(mixer: str) -> Count:
    with torch.device("meta"):
        return foveal.flops(timm.create_model("transxnet_t", device="meta", local_mixer=mixer), 224)


def test_idconv_is_the_default():
    with torch.device("meta"):
        default = timm.create_model("transxnet_t", device="meta").state_dict()
        asked = timm.create_model("transxnet_t", device="meta", local_mixer="idconv").state_dict()
    assert default.keys() == asked.keys()


def test_parameters_are_ordered_as_the_paper_says():
    """Section IV-D: slightly fewer in DyConv than in IDConv, more in D-DWConv."""
    params = {name: counted(name).params / 1e6 for name in LOCAL_MIXERS}
    assert params["dwconv"] < params["dyconv"] < params["idconv"] < params["window"] < params["d_dwconv"]
    assert params["idconv"] - params["dyconv"] < 0.02 * params["idconv"]


def test_window_attention_costs_more_than_the_convolutions():
    """Section IV-D: "window attention performs worse with higher computational cost"."""
    for count in (lambda c: c.macs, lambda c: c.paper_macs):
        costs = {name: count(counted(name)) for name in LOCAL_MIXERS}
        assert max(costs, key=costs.__getitem__) == "window"


@pytest.mark.parametrize("dim", [48, 96])
def test_d_dwconv_has_the_weights_that_the_paper_counts(dim):
    """Section III-B1: 12.5 C^2, and 12.5 = 1 / r + K^2 / r for r = 4 and K = 7."""
    squeeze, widen = DynamicDepthwiseConv(dim).proj
    assert squeeze.conv.weight.numel() + widen.weight.numel() == 12.5 * dim**2


# --- layers


def ready(module: nn.Module) -> nn.Module:
    return lively(module.double()).eval()


def draw(channels: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(3, channels, *size, dtype=torch.float64)


def convolved(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Each sample by its own depthwise kernels (B, C, K, K)."""
    padding, channels = weights.shape[-1] // 2, x.shape[1]
    samples = zip(x, weights, biases, strict=True)
    return torch.stack([F.conv2d(s[None], w[:, None], b, padding=padding, groups=channels)[0] for s, w, b in samples])


@maps
@torch.no_grad()
def test_dyconv_mixes_whole_kernels_per_sample(size):
    layer, x = ready(DyConv(8, 3)), draw(8, size)
    first, _, last = layer.attention
    hidden = (x.flatten(2).mean(2) @ first.weight.flatten(1).T).clamp(min=0)
    share = (hidden @ last.weight.flatten(1).T + last.bias).softmax(1)
    weights = sum(share[:, i, None, None, None] * layer.weight[i] for i in range(3))
    biases = sum(share[:, i, None] * layer.bias[i] for i in range(3))
    assert_same(layer(x), convolved(x, weights, biases), ROUNDINGS)


@maps
@torch.no_grad()
def test_dyconv_with_equal_weights_is_a_convolution_with_the_mean_kernel(size):
    layer, x = ready(DyConv(8, 4)), draw(8, size)
    layer.attention[-1].weight.zero_()
    layer.attention[-1].bias.fill_(0.7)
    expected = F.conv2d(x, layer.weight.mean(0)[:, None], layer.bias.mean(0), padding=3, groups=8)
    assert_same(layer(x), expected, ROUNDINGS)


@maps
@torch.no_grad()
def test_d_dwconv_convolves_each_sample_with_predicted_kernels(size):
    layer, x = ready(DynamicDepthwiseConv(8)), draw(8, size)
    squeeze, widen = layer.proj
    hidden = x.flatten(2).mean(2) @ squeeze.conv.weight.flatten(1).T
    norm = squeeze.bn
    hidden = F.gelu((hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias)
    weights = (hidden @ widen.weight.flatten(1).T + widen.bias).view(3, 8, 7, 7)
    assert_same(layer(x), convolved(x, weights, layer.bias.expand(3, 8)), ROUNDINGS)


@maps
@torch.no_grad()
def test_local_window_attention_is_attention_in_each_cell_of_7x7(size):
    layer, x = ready(LocalWindowAttention(12, 3)), draw(12, size)
    expected = torch.empty_like(x)
    for top in range(0, size[0], 7):
        for left in range(0, size[1], 7):
            cell = x[:, :, top : top + 7, left : left + 7]
            qkv = layer.qkv(cell.flatten(2).transpose(1, 2)).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
            y = ((qkv[0] @ qkv[1].transpose(2, 3)) * 0.5).softmax(-1) @ qkv[2]
            y = layer.proj(y.transpose(1, 2).flatten(2)).transpose(1, 2).view_as(cell)
            expected[:, :, top : top + 7, left : left + 7] = y
    assert_same(layer(x), expected, ROUNDINGS)


@every_other
@torch.no_grad()
def test_the_first_channels_of_a_d_mixer_go_to_the_local_mixer(mixer):
    layer = lively(DMixer(32, 2, 2, 2, 0.0, 0.0, enhancer=False, local_mixer=mixer)).eval()
    x, bias = torch.randn(1, 32, 8, 8), torch.randn(1, 2, 64, 16)
    branches = torch.cat([layer.local_unit(x[:, :16]), layer.global_unit(x[:, 16:], bias)], 1)
    torch.testing.assert_close(layer(x, bias), layer.proj(branches), rtol=1e-5, atol=1e-5)


# --- whole networks


@every_other
def test_a_step_reaches_every_parameter_and_lowers_the_loss(mixer):
    torch.manual_seed(0)
    net = lively(timm.create_model("transxnet_atto", depths=SHALLOW, num_classes=7, local_mixer=mixer)).train()
    assert_a_step_lowers_the_loss(net)


@every_other
@torch.no_grad()
def test_optimised_and_exported_networks_agree_at_any_size(mixer):
    net = atto("transxnet", local_mixer=mixer)
    folded = foveal.optimize(net)
    for size in [(72, 104), (33, 57)]:
        torch.testing.assert_close(folded(image(*size)), net(image(*size)), rtol=1e-4, atol=1e-4)
    assert all(isinstance(block, PlainBlock) for stage in folded.stages for block in stage.blocks)
    x = image(72, 104)
    assert foveal.optimize(net, torch.bfloat16)(x).isfinite().all()
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_the_blocks_of_another_mixer_stay_unfolded():
    net, other = atto("transxnet"), atto("transxnet", local_mixer="dwconv")
    net.stages[1].blocks[0] = other.stages[1].blocks[0]
    folded, x = foveal.optimize(net), image(64, 64)
    kinds = [type(stage.blocks[0]) for stage in folded.stages]
    assert kinds == [FoldedBlock, PlainBlock, FoldedBlock, FoldedBlock]
    torch.testing.assert_close(folded(x), net(x), rtol=1e-3, atol=1e-3)


def test_kernels_are_shown_for_idconv_alone():
    seen = watch_mixers(atto("transxnet", local_mixer="dyconv"), image(64, 64))
    assert seen.attention(1).weights.ndim == 3
    with pytest.raises(FovealError, match="Only IDConv mixes kernels, and this D-Mixer has a DyConv in its place"):
        seen.kernels(1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"local_mixer": "conv"}, "local_mixer must be one of idconv, dwconv, window, dyconv, d_dwconv, got 'conv'"),
        (
            {"local_mixer": "window", "attention_ratio": 0.375, "embed_dims": (96,) * 4, "num_heads": (9,) * 4},
            "local_mixer 'window' has 60 channels, which 9 heads cannot share: choose num_heads",
        ),
    ],
)
def test_wrong_combinations_are_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        timm.create_model("transxnet_t", **options)
