"""Maps of a TransXNet are normalised where a detector or segmenter takes them, and nowhere else."""

import pytest
import torch
from torch import nn

from foveal.tasks.dense.model import DenseBackbone

SHALLOW = dict(depths=(1, 1, 1, 1))


def norms(backbone):
    return [type(stage.feature_norm) for stage in backbone.body.stages]


@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (1, 2, 3), (0, 2)])
def test_the_stages_whose_maps_are_wanted_have_a_norm(stages):
    """RetinaNet leaves the first stage out: a norm there would never learn, and is not in the released file."""
    backbone = DenseBackbone("transxnet_atto", stages=stages, args=SHALLOW)
    assert norms(backbone) == [nn.GroupNorm if i in stages else nn.Identity for i in range(max(stages) + 1)]
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert len(maps) == len(stages)
    for m in maps:
        assert m.flatten(1).mean(1).abs().max() < 1e-5
        assert (m.flatten(1).var(1, unbiased=False) - 1).abs().max() < 1e-2


def test_norms_may_be_left_out():
    backbone = DenseBackbone("transxnet_atto", args={**SHALLOW, "feature_norm": False})
    assert norms(backbone) == [nn.Identity] * 4
