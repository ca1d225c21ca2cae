"""Batch normalisation in training, fused with its neighbours: one pass for statistics, none for the norm itself."""

from .depthwise_block import depthwise_block as depthwise_block
from .norms import fuses as fuses
from .norms import in_training as in_training
