"""Released weights into a backbone that a head holds."""

from typing import Any

from timm.models import load_pretrained
from torch import nn

from foveal.errors import FovealError
from foveal.integrations.transformers.backbone import PyramidBackbone
from foveal.models.loading import filter_of, load_checkpoint, without_feature_norms
from foveal.models.weights_file import WeightsSource


def load_released(model: nn.Module, file: WeightsSource | None = None) -> None:
    """Fill the backbone in a model with a classifier's weights; norms of feature maps, which no classifier has, stay.

    Args:
        model: a backbone of ours, or any model with exactly one in it.
        file: a file as ``foveal.load_checkpoint`` takes it; None fetches the authors' file for the configuration's
            ``model_name``.

    The first convolution adapts to another number of channels, position tables to another image size.

    Raises:
        FovealError: no backbone of ours in the model, or several; the file is missing, damaged or of another network;
            or there are no released weights, or they cannot be fetched.
    """
    backbones = [module for module in model.modules() if isinstance(module, PyramidBackbone)]
    if len(backbones) != 1:
        raise FovealError(
            f"load_released fills one backbone of foveal, and this {type(model).__name__} has {len(backbones)}: pass "
            "the backbone itself."
        )
    with without_feature_norms(backbones[0].net):
        if file is not None:
            load_checkpoint(backbones[0].net, file)
        else:
            _fetch(backbones[0])


def _fetch(backbone: PyramidBackbone) -> None:
    net: Any = backbone.net
    name = backbone.config.model_name
    if not any(net.pretrained_cfg.get(home) for home in ("hf_hub_id", "url", "file")):
        raise FovealError(f"There are no released weights of {name}: choose another model, or pass a file.")
    try:
        load_pretrained(net, num_classes=0, in_chans=net.in_chans, filter_fn=filter_of(net))
    except OSError as error:
        raise FovealError(
            f"The released weights of {name} cannot be fetched ({error}): check the connection, or download the file "
            "elsewhere and pass it."
        ) from error
