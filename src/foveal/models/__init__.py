"""The backbones, registered in timm on import. Knows ops and timm."""

from .released import CheckpointError, LoadReport, load_checkpoint
from .transnext import TransNeXt
from .transxnet import TransXNet

__all__ = ["CheckpointError", "LoadReport", "TransNeXt", "TransXNet", "load_checkpoint"]
