"""Published accuracies besides ImageNet-1K's top-1, which is in ``foveal.models.catalogue``.

TransNeXt: arXiv:2311.17132v3, table 1 (robustness, also in its repository) and table 5 (sizes and modes, appendix D.2).
TransXNet: arXiv:2310.19380, section IV-A. All are top-1 in percent, and mCE for ImageNet-C.
"""

import timm

from foveal.models.catalogue import published_top1
from foveal.tasks.classification.imagenet.sets import SetName
from foveal.tasks.classification.modes import Mode
from foveal.types import Size

_ROBUSTNESS: dict[str, dict[SetName, float]] = {
    "transnext_micro.in1k": {"c": 50.8, "a": 29.9, "r": 45.8, "sketch": 33.0, "v2": 72.6},
    "transnext_tiny.in1k": {"c": 46.5, "a": 39.9, "r": 49.6, "sketch": 37.6, "v2": 73.8},
    "transnext_small.in1k": {"c": 43.9, "a": 47.1, "r": 52.5, "sketch": 39.7, "v2": 74.8},
    "transnext_base.in1k": {"c": 43.5, "a": 50.6, "r": 53.9, "sketch": 41.4, "v2": 75.1},
    "transnext_small.in1k_384": {"a": 58.3, "r": 56.4, "sketch": 43.2, "v2": 76.8},
    "transnext_base.in1k_384": {"a": 61.6, "r": 57.7, "sketch": 44.7, "v2": 77.0},
    "transxnet_t.in1k": {"v2": 70.7},
    "transxnet_s.in1k": {"v2": 73.8},
    "transxnet_b.in1k": {"v2": 75.0},
}

#: Sides in pixels of table 5: the training size, at which all modes are equal, and larger ones.
SIZES = (224, 256, 288, 384, 480, 512, 640)

_MULTI_SCALE: dict[tuple[str, Mode], tuple[float, ...]] = {  # at SIZES[1:]
    ("transnext_micro.in1k", "normal"): (82.8, 82.9, 83.1, 82.1, 81.6, 79.3),
    ("transnext_micro.in1k", "linear"): (82.5, 82.4, 82.3, 80.9, 80.3, 77.6),
    ("transnext_tiny.in1k", "normal"): (84.3, 84.3, 84.6, 83.8, 83.2, 81.6),
    ("transnext_tiny.in1k", "no_length_scaling"): (84.3, 84.4, 84.7, 83.7, 83.2, 80.9),
    ("transnext_tiny.in1k", "interpolate"): (84.1, 84.2, 84.3, 83.1, 82.4, 79.5),
    ("transnext_tiny.in1k", "linear"): (84.0, 83.9, 84.1, 83.0, 82.6, 80.7),
    ("transnext_small.in1k", "normal"): (84.9, 84.9, 85.0, 84.1, 83.8, 82.2),
    ("transnext_small.in1k", "linear"): (84.7, 84.7, 84.9, 84.0, 83.6, 81.7),
    ("transnext_base.in1k", "normal"): (85.1, 85.1, 85.5, 84.7, 84.3, 82.8),
    ("transnext_base.in1k", "linear"): (85.0, 84.9, 85.1, 84.1, 83.5, 81.5),
}


def published(weights: str, name: SetName, mode: Mode | None, size: Size) -> float | None:
    """Return the published figure of the released ``weights`` ("transnext_tiny.in1k"), or None if there is none.

    Args:
        weights: name of the network and its weights.
        name: test set.
        mode: None for the network's own, which is "normal" for released weights.
        size: (height, width) of the images.
    """
    mode, own = mode or "normal", _own_size(weights)
    if name != "val":
        return _ROBUSTNESS.get(weights, {}).get(name) if (mode, size) == ("normal", own) else None
    row = _MULTI_SCALE.get((weights, mode))
    if size == own and (mode == "normal" or row):
        return published_top1(weights)
    larger = {(side, side): figure for side, figure in zip(SIZES[1:], row or (), strict=False)}
    return larger.get(size)


def _own_size(weights: str) -> Size | None:
    configuration = timm.get_pretrained_cfg(weights)
    return configuration.input_size[1:] if configuration else None
