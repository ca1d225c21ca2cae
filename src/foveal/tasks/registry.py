"""The registry of tasks: from a kind to its class and its recipes, which are imported when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError

if TYPE_CHECKING:
    from foveal.tasks.recipe import BaseRecipe
    from foveal.tasks.task import Task


@dataclass(frozen=True)
class Entry:
    """One task.

    Attributes:
        noun: what the task trains, in one word.
        package: the folder of the task, which holds ``task.py`` and ``recipes.py``.
        class_name: the subclass of ``Task`` in ``task.py``.
    """

    noun: str
    package: str
    class_name: str


TASKS: dict[str, Entry] = {
    "classification": Entry("classifier", "foveal.tasks.classification", "ClassificationTask"),
    "detection": Entry("detector", "foveal.tasks.detection", "DetectionTask"),
    "segmentation": Entry("segmenter", "foveal.tasks.segmentation", "SegmentationTask"),
}


def task_class(kind: str) -> type[Task[Any]]:
    """Return the class of a task.

    Raises:
        KeyError: there is no task of this kind.
    """
    entry = TASKS[kind]
    found: type[Task[Any]] = getattr(import_module(f"{entry.package}.task"), entry.class_name)
    return found


def recipes_of(kind: str) -> dict[str, Callable[[], BaseRecipe]]:
    """Return what creates each recipe of a task, by name."""
    found: dict[str, Callable[[], BaseRecipe]] = import_module(f"{TASKS[kind].package}.recipes").RECIPES
    return found


def noun(kind: str) -> str:
    """Return the word for what a task trains, also for a kind that only a newer version knows."""
    return TASKS[kind].noun if kind in TASKS else f"network for {kind}"


def check_kind(metadata: Mapping[str, Any], path: Path, kind: str) -> None:
    """Raise FovealError if a file holds the network of another task. Files without a task hold classifiers."""
    found = metadata.get("task", "classification")
    if found != kind:
        name = metadata.get(noun(found), metadata["model"])
        raise FovealError(
            f"{path} holds a {noun(found)} ({name}), not a {noun(kind)}: pass the recipe that it was trained with."
        )
