"""foveal: TransNeXt and TransXNet as timm models, exact to the released weights.

Importing this package registers the models in timm; it prints, writes and downloads nothing.
"""

from . import models, ops
from .errors import FovealError
from .models import TransNeXt, TransXNet, flops, load_checkpoint, load_quantized, optimize, quantize
from .version import __version__

__all__ = [
    "FovealError",
    "TransNeXt",
    "TransXNet",
    "__version__",
    "flops",
    "load_checkpoint",
    "load_quantized",
    "models",
    "ops",
    "optimize",
    "quantize",
]
