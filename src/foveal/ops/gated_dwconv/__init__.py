"""Gated depthwise convolution (TransNeXt's convolutional GLU)."""

from .api import gated_dwconv as gated_dwconv
