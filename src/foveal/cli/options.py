"""Options that only some tasks take: declared where their default is, refused for the others by one sentence."""

from dataclasses import fields
from importlib import import_module
from types import ModuleType
from typing import Any

from foveal.cli.console import UsageError
from foveal.tasks.registry import noun

TASKS = "tasks"


def only_for(*tasks: str) -> dict[str, tuple[str, ...]]:
    """Metadata of a dataclass's field: an option that only these tasks take."""
    return {TASKS: tasks}


def refuse_others(options: Any, task: str, who: str) -> None:
    """Raise UsageError for the first option of a dataclass that was given and is not ``task``'s.

    Args:
        who: the sentence's subject: "this file holds", or a name and "is".
    """
    for one in fields(options):
        tasks = one.metadata.get(TASKS)
        if tasks and task not in tasks and getattr(options, one.name) != one.default:
            takers = " and ".join(f"{noun(name)}s" for name in tasks)
            option = "--" + one.name.replace("_", "-")
            raise UsageError(f"{option} is for {takers}, and {who} a {noun(task)}: leave it out.")


def commands_of(kind: str) -> ModuleType:
    """Return the module of a task's commands: ``evaluate(recipe, options)`` and ``predict(images, weights, recipe,
    options)``."""
    return import_module(f"foveal.cli.{kind}")
