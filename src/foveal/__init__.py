"""foveal: TransNeXt and TransXNet as timm models, exact to the released weights.

Importing this package registers the models in timm; it prints, writes and downloads nothing.
"""

from . import models, ops
from .errors import FovealError
from .models import TransNeXt, TransXNet, load_checkpoint

__version__ = "0.1.0"

__all__ = ["FovealError", "TransNeXt", "TransXNet", "__version__", "load_checkpoint", "models", "ops"]
