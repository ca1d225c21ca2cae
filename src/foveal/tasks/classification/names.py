"""Names that are typed for a classifier: of test sets, modes, corruptions and strengths of augmentation. Nothing here
needs PyTorch."""

from typing import Literal, get_args

SetName = Literal["val", "a", "r", "sketch", "v2", "c"]
"""Sets to evaluate on: ``imagenet.sets`` describes them."""

Strength = Literal["none", "light", "medium", "strong"]
"""Strengths of augmentation: ``preprocessing.STRENGTHS`` describes them."""

Mode = Literal["normal", "linear", "no_length_scaling", "interpolate"]
"""Modes of TransNeXt: ``modes.in_mode`` describes them."""
MODES: tuple[Mode, ...] = get_args(Mode)

CorruptionName = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
"""Corruptions of ImageNet-C: ``corruption_library`` computes them."""
CORRUPTIONS: tuple[CorruptionName, ...] = get_args(CorruptionName)
