"""Convolutional GLU of TransNeXt with the LayerNorm before it and the residual addition after it, for inference."""

from .api import convolutional_glu as convolutional_glu
