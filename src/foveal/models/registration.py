"""Registering a network in timm: its configuration, and the function that builds it."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg

from .pyramid import Pyramid

Backbone = TypeVar("Backbone", bound=Pyramid)

FIRST_CONV = "stages.0.downsample.proj"
CLASSIFIER = "head.fc"


def classification_cfg(size: int = 224, **settings: Any) -> dict[str, Any]:
    """Return a timm configuration for ImageNet-1K weights trained on images of ``size`` pixels.

    Further settings add to it or replace its entries. From 384 pixels on, TransNeXt's paper resizes the whole image
    instead of cropping its centre.
    """
    whole = dict(crop_pct=1.0, crop_mode="squash") if size >= 384 else dict(crop_pct=0.875)
    return {
        "num_classes": 1000,
        "input_size": (3, size, size),
        "pool_size": (size // 32, size // 32),
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": FIRST_CONV,
        "classifier": CLASSIFIER,
        **whole,
        **settings,
    }


def build_backbone(
    kind: type[Backbone], variant: str, pretrained: bool, settings: dict[str, Any], **defaults: Any
) -> Backbone:
    """Build a registered variant of a backbone as timm does.

    Args:
        kind: the backbone's class, whose module has a ``checkpoint_filter_fn``.
        variant: name under which it is registered.
        pretrained: load its released weights.
        settings: arguments of ``timm.create_model``, which replace the defaults.
        defaults: arguments that make this variant.
    """
    return build_model_with_cfg(
        kind,
        variant,
        pretrained,
        pretrained_filter_fn=sys.modules[kind.__module__].checkpoint_filter_fn,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls="getter"),
        **{**defaults, **settings},
    )
