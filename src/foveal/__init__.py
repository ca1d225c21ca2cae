"""foveal: TransNeXt and TransXNet as timm models, exact to the released weights.

Importing this package registers the models in timm; it prints, writes and downloads nothing. In a process of the
command line the first use of a network imports PyTorch and registers them: help and errors do not wait for that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveal_commands import is_command_line

from .errors import FovealError
from .version import __version__

if TYPE_CHECKING or not is_command_line():
    from . import models, ops
    from .models import TransNeXt, TransXNet, flops, load_checkpoint, load_quantized, optimize, quantize

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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used in a process of the command line."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return (
        import_module(f".{name}", __name__)
        if name in ("models", "ops")
        else getattr(import_module(".models", __name__), name)
    )
