"""What the released weights' timm configurations have in common."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

FIRST_CONV = "stages.0.downsample.proj"
CLASSIFIER = "head.fc"


def classification_cfg(size: int = 224, **settings: Any) -> dict[str, Any]:
    """A timm configuration for ImageNet-1K weights of images of `size` pixels; `settings` add to it or replace its
    entries.

    From 384 pixels on TransNeXt's paper resizes the whole image instead of cropping its centre.
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
