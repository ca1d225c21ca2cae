"""Networks as files for other runtimes, checked before they have their names."""

from .subject import Subject
from .write import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "Subject", "export"]
