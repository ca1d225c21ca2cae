"""Options of commands that are made from declarations, and options that only some tasks take."""

from dataclasses import field, fields, make_dataclass
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

from tyro.conf import arg

from foveal.cli.console import UsageError
from foveal.options import TASKS, declarations
from foveal.tasks.registry import noun


def only_for(*tasks: str) -> dict[str, tuple[str, ...]]:
    """Return metadata for a dataclass field: an option that only these tasks take."""
    return {TASKS: tasks}


def refuse_others(options: Any, task: str, who: str) -> None:
    """Raise UsageError for the first option that was given and that ``task`` does not take.

    Args:
        who: Subject of the sentence: "this file holds", or a name and "is".
    """
    for one in fields(options):
        tasks = one.metadata.get(TASKS)
        if tasks and task not in tasks and getattr(options, one.name) != one.default:
            takers = " and ".join(f"{noun(name)}s" for name in tasks)
            option = "--" + one.name.replace("_", "-")
            raise UsageError(f"{option} is for {takers}, and {who} a {noun(task)}: leave it out.")


def overrides_of(settings: type) -> type:
    """Return a dataclass with the options of ``settings``, each of which leaves the setting as it is unless given."""
    members: list[tuple[str, Any, Any]] = []
    for one in declarations(settings):
        if one.on_command_line:
            kind, default = (bool, False) if one.type is bool else (one.type | None, None)
            metadata = {TASKS: one.tasks}
            members.append((one.name, Annotated[kind, arg(help=one.help)], field(default=default, metadata=metadata)))
    return make_dataclass(f"{settings.__name__}Overrides", members, frozen=True, kw_only=True)


def given(overrides: Any) -> dict[str, Any]:
    """Return the options of such a dataclass that were given, by name."""
    return {
        one.name: getattr(overrides, one.name)
        for one in fields(overrides)
        if getattr(overrides, one.name) != one.default
    }


def commands_of(kind: str) -> ModuleType:
    """Return the module of a task's commands: ``evaluate(recipe, options)`` and ``predict(images, weights, recipe,
    options)``."""
    return import_module(f"foveal.cli.{kind}")
