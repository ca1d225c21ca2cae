"""A classifier at other sizes and in the modes that TransNeXt's paper compares (section 4.1; appendix D.2, table 5)."""

import copy
from dataclasses import replace
from typing import Any

from foveal.errors import FovealError
from foveal.models.transnext import TransNeXt
from foveal.tasks.classification.names import Mode
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import set_input_size
from foveal.types import Size

MODE_TITLES: dict[Mode | None, str] = {
    None: "",
    "normal": "normal",
    "linear": "linear",
    "no_length_scaling": "no length scaling",
    "interpolate": "interpolated bias",
}


def has_modes(classifier: Classifier) -> bool:
    """Return whether the network has other modes than its own: only TransNeXt has."""
    return isinstance(classifier.model, TransNeXt)


def linear_pool(classifier: Classifier) -> int | None:
    """Return the paper's pool size in linear mode: 1/32 of the pre-training size, 7 for weights of 224 pixels."""
    model = classifier.model
    return max(model.pretrain_size[0] // 32, 1) if isinstance(model, TransNeXt) else None


def in_mode(
    classifier: Classifier, mode: Mode | None = None, size: Size | None = None, pool_size: int | None = None
) -> Classifier:
    """Return a copy of the classifier for images of ``size`` (None: its own), with the same weights.

    normal: keys are pooled to 1/32 of the image; attention is scaled by the number of keys; the position bias is
    extrapolated. linear: pooled to ``pool_size`` (None: ``linear_pool``) whatever the image's size.
    no_length_scaling: scaled by the number of keys at the size of pre-training. interpolate: the position bias of the
    size of pre-training, resized. Without a mode the network stays in its own, with ``pool_size`` in linear mode.

    Raises:
        FovealError: a mode or size that the network cannot take.
    """
    fit = classifier.fit if size is None else replace(classifier.fit, size=size)
    model = copy.deepcopy(classifier.model)
    if mode is None:
        set_input_size(model, fit.size, pool_size)
    elif not isinstance(model, TransNeXt):
        raise FovealError(f"{type(model).__name__} has no modes, only TransNeXt has: leave --mode out.")
    else:
        try:
            model.set_input_size(**_settings(mode, model, fit.size, pool_size or linear_pool(classifier)))
        except ValueError as error:
            raise FovealError(f"{classifier.name} has no {mode} mode at {fit.size[0]} pixels: {error}.") from error
    return replace(classifier, model=model, fit=fit)


def _settings(mode: Mode, model: TransNeXt, size: Size, pool_size: int | None) -> dict[str, Any]:
    normal = {"img_size": size, "pool_size": None, "position_bias": "extrapolate", "length_scaling": True}
    changes: dict[Mode, dict[str, Any]] = {
        "normal": {},
        "linear": {"pool_size": pool_size},
        "no_length_scaling": {"length_scaling": False},
        "interpolate": {"position_bias": "interpolate", "img_size": model.pretrain_size},
    }
    return {**normal, **changes[mode]}
