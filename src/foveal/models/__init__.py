"""The backbones, which are registered in timm on import."""

from . import mixer_comparison, pvt, roadmap  # noqa: F401 - they register their models
from .counting import Count, flops
from .folded import optimize
from .load_report import CheckpointError, LoadReport
from .loading import load_checkpoint
from .quantized import load_quantized, quantize
from .transnext import TransNeXt
from .transxnet import TransXNet
from .weights_file import WeightsFile

__all__ = [
    "CheckpointError",
    "Count",
    "LoadReport",
    "TransNeXt",
    "TransXNet",
    "WeightsFile",
    "flops",
    "load_checkpoint",
    "load_quantized",
    "optimize",
    "quantize",
]
