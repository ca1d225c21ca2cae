"""Names that are typed for a classifier: of test sets and of modes. Nothing here needs PyTorch."""

from typing import Literal, get_args

SetName = Literal["val", "a", "r", "sketch", "v2", "c"]
"""Sets to evaluate on: ``imagenet.sets`` describes them."""

Mode = Literal["normal", "linear", "no_length_scaling", "interpolate"]
"""Modes of TransNeXt: ``modes.in_mode`` describes them."""
MODES: tuple[Mode, ...] = get_args(Mode)
