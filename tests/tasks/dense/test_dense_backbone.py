"""Feature maps of any model have the layout heads expect, and frozen stages do not change."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.dense.model import DenseBackbone

SHALLOW = dict(depths=(1, 1, 1, 1))
BOTH = pytest.mark.parametrize("name", ["transnext_atto", "transxnet_atto"])


def backward(backbone, size=64):
    sum(m.square().sum() for m in backbone(torch.rand(2, 3, size, size))).backward()


def test_maps_are_channels_first_even_if_a_side_equals_the_channel_count():
    """Swin returns channels last; at 384 pixels its first map has height 96 and 96 channels."""
    backbone = DenseBackbone("swin_tiny_patch4_window7_224", args=dict(img_size=(384, 224), depths=(1, 1, 1, 1)))
    sizes = {(m.shape[1], *m.shape[-2:]) for m in backbone(torch.rand(1, 3, 384, 224))}
    assert sizes == {(96, 96, 56), (192, 48, 28), (384, 24, 14), (768, 12, 7)}


@BOTH
def test_frozen_stages_have_no_gradients_and_do_not_change(name):
    backbone = DenseBackbone(name, frozen_stages=2, drop_path=0.5, args=SHALLOW).train()
    before = deepcopy(backbone.body.stages[:2].state_dict())  # including batch norm statistics
    backward(backbone)
    learning = {name.split("stages.")[1][0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {"2", "3"}
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())
    for name, tensor in backbone.body.stages[:2].state_dict().items():
        assert torch.equal(tensor, before[name]), name


@BOTH
def test_frozen_stages_stay_in_evaluation_mode(name):
    backbone = DenseBackbone(name, stages=(0, 1), frozen_stages=2, drop_path=0.9, args=SHALLOW)
    images = torch.rand(2, 3, 64, 64)
    trained, evaluated = backbone.train()(images), backbone.eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(trained, evaluated, strict=True))
    assert any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules()) == (name == "transxnet_atto")


@BOTH
def test_gradient_checkpointing_after_frozen_stages_does_not_change_gradients(name):
    backbone, found = DenseBackbone(name, frozen_stages=1, args=SHALLOW).train(), []
    for enable in (False, True):
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        torch.manual_seed(0)
        backward(backbone)
        found.append([p.grad.clone() for p in backbone.parameters() if p.requires_grad])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("transnext_atto", dict(frozen_stages=5), "frozen_stages must be from 0 to 4, not 5"),
        ("resnet18", dict(frozen_stages=1), "resnet18 cannot be frozen stage by stage: leave"),
        ("transnext_atto", dict(drop_path=1.5), "drop_path must be at least 0 and below 1, not 1.5"),
        ("transnext_atto", dict(drop_path=-0.1), "drop_path must be at least 0 and below 1, not -0.1"),
        ("transnext_atto", dict(position_bias="none"), 'position_bias must be "extrapolate" or "interpolate"'),
        ("transnext_atto", dict(reference_size=16), "at least 32 x 32, got 16 x 16"),
        ("vit_tiny_patch16_224", {}, "have strides 16, 16, 16, 16, where 4, 8, 16, 32 are needed"),
    ],
)
def test_unsupported_settings_raise_a_one_line_error(name, options, sentence):
    with pytest.raises(FovealError, match=sentence):
        DenseBackbone(name, **options)
