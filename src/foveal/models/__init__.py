"""The backbones, registered in timm on import. Knows ops and timm."""

from .counting import Count, flops
from .folded import optimize
from .released import CheckpointError, LoadReport, load_checkpoint
from .transnext import TransNeXt
from .transxnet import TransXNet

__all__ = ["CheckpointError", "Count", "LoadReport", "TransNeXt", "TransXNet", "flops", "load_checkpoint", "optimize"]
