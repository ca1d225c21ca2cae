"""``freeze``: the stem and the first stages of any timm network, or everything but its classifier."""

import pytest
import timm

from foveal.errors import FovealError
from foveal.tasks.classification.freezing import freeze


def trained(name, stages):
    """The first parts of the names of the parameters that are trained."""
    model = timm.create_model(name, num_classes=3)
    freeze(model, stages)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("model", "stages", "frozen"),
    [
        ("resnet18", 2, ("conv1.", "bn1.", "layer1.", "layer2.")),
        ("test_convnext", 1, ("stem.", "stages.0.")),
        ("transnext_atto", 2, ("stages.0.", "stages.1.")),
        ("transxnet_atto", 3, ("stages.0.", "stages.1.", "stages.2.")),
        ("vit_tiny_patch16_224", "all", ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")),
        ("resnet18", "all", ("conv1.", "bn1.", "layer")),
        ("resnet18", None, ("none",)),
        ("resnet18", 0, ("none",)),
    ],
)
def test_these_parameters_are_frozen_and_no_others(model, stages, frozen):
    names = {name for name, _ in timm.create_model(model, num_classes=3).named_parameters()}
    assert trained(model, stages) == {name for name in names if not name.startswith(frozen)}


@pytest.mark.parametrize(
    ("model", "stages", "sentence"),
    [
        ("vit_tiny_patch16_224", 2, "no stages that follow each other: pass --freeze all"),
        ("hrnet_w18_small", 1, "no stages that follow each other: pass --freeze all"),
        ("resnet18", 5, "has 4 stages, of which 5 cannot be frozen"),
    ],
)
def test_a_network_without_such_stages_is_refused(model, stages, sentence):
    with pytest.raises(FovealError, match=sentence):
        trained(model, stages)
