"""The layers that are named for stages and branches give the maps that are promised."""

import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.errors import FovealError
from foveal.explain import Layer, branch_layers, cam_layer, stage_layers

NAMES = ("transnext_atto", "transxnet_atto")


def output_of(net: nn.Module, module: nn.Module) -> torch.Tensor:
    seen = []
    handle = module.register_forward_hook(lambda _, args, output: seen.append(output))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 96))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stage", [0, 2, 3, -1])
def test_layers_for_grad_cam_give_channels_first_maps(name, stage):
    net = timm.create_model(name).eval()
    index = stage % 4
    expected = (1, net.feature_info[index]["num_chs"], 64 >> (index + 2), 96 >> (index + 2))
    assert output_of(net, cam_layer(net, stage)).shape == expected


@pytest.mark.parametrize("name", NAMES)
def test_stages_have_their_channels_where_the_layout_says(name):
    net = timm.create_model(name).eval()
    for info, place in zip(net.feature_info, stage_layers(net).values(), strict=True):
        assert place.channels_first(output_of(net, place.find(net))).shape[1] == info["num_chs"]


def test_what_is_not_there_is_refused_in_one_sentence():
    transnext, transxnet = (timm.create_model(name) for name in NAMES)
    with pytest.raises(FovealError, match="no stage 4 among 4"):
        cam_layer(transnext, 4)
    with pytest.raises(FovealError, match="no block 9 among"):
        branch_layers(transxnet, block=9)
    with pytest.raises(FovealError, match="use a transxnet"):
        branch_layers(transnext)
    with pytest.raises(FovealError, match="before optimize"):
        branch_layers(foveal.optimize(transxnet.eval()))
    for look in (cam_layer, stage_layers):
        with pytest.raises(FovealError, match="name the layer"):
            look(nn.Linear(1, 1))
    with pytest.raises(FovealError, match='"NCHW" or "NHWC"'):
        Layer("conv", "CHWN")
    with pytest.raises(FovealError, match='"output" or "input"'):
        Layer("conv", side="middle")
