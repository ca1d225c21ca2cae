"""Only the TransXNet feature maps used by a detector or segmenter are normalised."""

import pytest
import torch
from torch import nn

from foveal.tasks.dense.model import DenseBackbone

SHALLOW = dict(depths=(1, 1, 1, 1))


def norms(backbone):
    return [type(stage.feature_norm) for stage in backbone.body.stages]


@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (1, 2, 3), (0, 2)])
def test_only_stages_with_requested_maps_have_a_norm(stages):
    """RetinaNet does not use the first stage: its norm would not be trained and is not in the released checkpoint."""
    backbone = DenseBackbone("transxnet_atto", stages=stages, args=SHALLOW)
    assert norms(backbone) == [nn.GroupNorm if i in stages else nn.Identity for i in range(max(stages) + 1)]
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert len(maps) == len(stages)
    for m in maps:
        assert m.flatten(1).mean(1).abs().max() < 1e-5
        assert (m.flatten(1).var(1, unbiased=False) - 1).abs().max() < 1e-2


def test_norms_can_be_disabled():
    backbone = DenseBackbone("transxnet_atto", args={**SHALLOW, "feature_norm": False})
    assert norms(backbone) == [nn.Identity] * 4
