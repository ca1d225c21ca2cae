"""Where the options of ``foveal train`` come from: the words of the command line, a file, and the run that is resumed.

What is typed comes first, then ``--config``, then ``run.toml`` of the run.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from foveal.cli.console import UsageError
from foveal.cli.run_file import RUN_FILE, read_run_file
from foveal.cli.signature import Option
from foveal.errors import FovealError
from foveal.training.run_files import BEGINNING, LAST

Given = TypeVar("Given")


def completed(options: Any, settings: Any, known: Sequence[Option]) -> tuple[Any, Any]:
    """Return the options of a run and the settings to change, with those of the files where they were not typed.

    Args:
        known: the options of the command.

    Raises:
        FovealError: a file has a mistake, or there is no run to resume.
        UsageError: it is not said which run to resume.
    """
    if options.config is not None:
        values = read_run_file(options.config, known)
        options, settings = _filled(options, values), _filled(settings, values)
    if not (options.resume or options.requeue):
        return options, settings
    if options.recipe is None and options.out is None:
        raise UsageError("The run to continue is not named: pass its RECIPE, or its folder as --out DIR.")
    values = _of_the_run(options, known)
    return _filled(options, values), _filled(settings, values)


def _of_the_run(options: Any, known: Sequence[Option]) -> dict[str, Any]:
    """Return the options that the run in the folder was started with; none if it has not kept them."""
    folder: Path = options.folder
    if not (folder / LAST).exists():
        if options.requeue:
            return {}
        raise FovealError(
            f"There is no run to continue, {folder / LAST} does not exist: leave --resume out, or check --out."
        )
    if not (folder / RUN_FILE).exists():
        if options.recipe is None:
            raise FovealError(_without_options(folder))
        return {}
    values = read_run_file(folder / RUN_FILE, known)
    recipe = values.get("recipe")
    if options.recipe not in (None, recipe):
        raise FovealError(
            f"The run in {folder} was started with the recipe {recipe}, not {options.recipe}: leave the recipe out, or "
            "start a new run with another --out."
        )
    return values


def _without_options(folder: Path) -> str:
    """Return the error about a run without ``run.toml``, with its recipe if that is known."""
    try:
        recipe = json.loads((folder / BEGINNING).read_text(encoding="utf-8"))["card"]["recipe"]
    except (OSError, ValueError, KeyError):
        recipe = None
    named = "its RECIPE" if recipe is None else f"the recipe {recipe}"
    return (
        f"{folder} has no {RUN_FILE}, since the run was not started by this version of foveal train: pass {named} and "
        "the options that it was started with."
    )


def _filled(options: Given, values: Mapping[str, Any]) -> Given:
    """Return a dataclass of options with ``values`` where nothing was typed."""
    left = {one.name for one in fields(options) if getattr(options, one.name) == one.default}  # type: ignore[arg-type]
    return replace(options, **{name: value for name, value in values.items() if name in left})  # type: ignore[type-var]


def how_to_resume(folder: Path, *more: str) -> str:
    """Return the command that resumes the run in a folder; under a launcher, what to add to the command that was
    typed."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return f"the same command with {' '.join(['--resume', *more])}"
    return f"`{shlex.join(['foveal', 'train', '--resume', '--out', str(folder), *more])}`"
