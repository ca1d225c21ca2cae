"""One training loop for all tasks."""

from foveal.training.config import TrainConfig
from foveal.training.loop import Outcome, fit
from foveal.training.task import Task

__all__ = ["Outcome", "Task", "TrainConfig", "fit"]
