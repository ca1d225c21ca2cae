"""The feature pyramid compared with torchvision's, and its differences."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FeaturePyramidNetwork

from foveal.tasks.dense.model import FeaturePyramid

SIZES = [(13, 9), (7, 5), (4, 3)]  # halved and rounded up, as by the backbones
CHANNELS = (3, 4, 5)


@pytest.fixture
def maps():
    return [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(CHANNELS, SIZES, strict=True)]


def small(extra: str) -> FeaturePyramid:
    pyramid = FeaturePyramid(CHANNELS, 6, extra).double()
    for parameter in pyramid.parameters():
        torch.nn.init.normal_(parameter)
    return pyramid


@pytest.mark.parametrize("extra", ["pool", "conv"])
def test_the_backbone_levels_match_torchvision(extra, maps):
    pyramid, peer = small(extra), FeaturePyramidNetwork(list(CHANNELS), 6).double()
    for i in range(3):
        peer.inner_blocks[i][0].load_state_dict(pyramid.lateral[i].state_dict())
        peer.layer_blocks[i][0].load_state_dict(pyramid.output[i].state_dict())
    expected = peer({str(i): m for i, m in enumerate(maps)})
    for ours, theirs in zip(pyramid(maps), expected.values(), strict=False):
        torch.testing.assert_close(ours, theirs)


def test_the_pooled_level_takes_every_second_position(maps):
    outputs = small("pool")(maps)
    assert len(outputs) == 4
    assert torch.equal(outputs[3], F.max_pool2d(outputs[2], 1, stride=2))
    assert outputs[3].shape[-2:] == (2, 2)


def test_extra_levels_are_convolutions_without_an_activation(maps):
    """torchvision's LastLevelP6P7 has a ReLU in between."""
    pyramid = small("conv")
    outputs = pyramid(maps)
    first = F.conv2d(maps[2], pyramid.extra[0].weight, pyramid.extra[0].bias, stride=2, padding=1)
    second = F.conv2d(first, pyramid.extra[1].weight, pyramid.extra[1].bias, stride=2, padding=1)
    assert (first < 0).any()
    torch.testing.assert_close(outputs[3], first)
    torch.testing.assert_close(outputs[4], second)
    assert len(outputs) == 5


def test_without_extra_levels_there_is_one_map_per_stage():
    assert (
        len(FeaturePyramid(CHANNELS, 6, None)([torch.zeros(1, dim, 8 >> n, 8 >> n) for n, dim in enumerate(CHANNELS)]))
        == 3
    )


def test_an_unknown_kind_of_extra_levels_is_rejected():
    with pytest.raises(ValueError, match="'pool', 'conv' or None"):
        FeaturePyramid(CHANNELS, 6, "none")
