"""One training loop for all tasks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveal.training.config import TrainConfig

if TYPE_CHECKING:
    from foveal.training.loop import Outcome, fit
    from foveal.training.task import Task

__all__ = ["Outcome", "Task", "TrainConfig", "fit"]

_HOMES = {"Outcome": "loop", "fit": "loop", "Task": "task"}


def __getattr__(name: str) -> Any:
    """Import the loop when it is first used: the settings, which a command line is made from, do not need PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
