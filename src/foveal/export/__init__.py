"""Networks as files for other runtimes, checked before they have their names."""

from .formats import FORMATS
from .subject import Subject
from .torch_run import load
from .write import Exported, export

__all__ = ["FORMATS", "Exported", "Subject", "export", "load"]
