"""What a run was trained with, and where: recipe, settings, images, time, versions and machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from typing import Any

import foveal
from foveal.bench.machine import device_name, source_commit
from foveal.errors import FovealError
from foveal.options import declarations
from foveal.report.page import Child, el, facts, table
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.network import best_device
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import get_recipe
from foveal.training import Outcome
from foveal.training.config import TrainConfig
from foveal.wording import TIMES, many

PACKAGES = {"PyTorch": "torch", "timm": "timm", "NumPy": "numpy"}
NAMES = {"fit.size": "image size", "fit.crop": "share of the image that is cropped"}  # of settings
LONGEST = 120  # characters of a setting


def duration(seconds: float) -> str:
    """Format a duration: "41 s", "2 min 41 s", "3 h 2 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def trained_seconds(outcome: Outcome) -> float:
    """Return the time that all epochs of a run took, also those before it was resumed, without the evaluations."""
    return float(sum(record["seconds"] for record in outcome.history))


def provenance() -> dict[str, str]:
    """Return versions, time and machine, name -> value; without the commit if foveal does not run from its
    repository."""
    commit = source_commit()
    return {
        "foveal": foveal.__version__ if commit is None else f"{foveal.__version__}, commit {commit}",
        **{name: version(package) for name, package in PACKAGES.items()},
        "Python": platform.python_version(),
        "Created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "Device": device_name(str(best_device())),
    }


def run_facts(task: Any, outcome: Outcome, begun: Mapping[str, Any], data: str | None) -> Child:
    """Return what was trained, on what, and how long, and the settings that differ from the recipe's.

    Args:
        begun: content of the run's ``run.json``; empty for a run from before it was written.
        data: the images as they were named; None for those that come with the recipe.
    """
    recipe, config = task.recipe, task.recipe.train
    batching = begun.get("batching", {})
    processes = f" on {many(batching['processes'], 'process', 'processes')}" if batching else ""
    rows = {
        "Recipe": recipe.name + (f": {recipe.summary}" if recipe.summary else ""),
        "Model": f"{recipe.model}, {many(len(task.train.classes), 'class', 'classes')}, {config.precision}",
        "Began with": _start(begun),
        "Images": (
            f"{data or recipe.data}: {many(task.train_size, 'training image')}, "
            f"{many(len(task.val), 'validation image')}"
        ),
        "Length": (
            f"{many(outcome.epochs, 'epoch')}, {many(outcome.updates, 'update')} of "
            f"{many(config.batch_size, 'image')}{processes}; {duration(trained_seconds(outcome))} of training"
        ),
        "Weights": (
            f"of epoch {outcome.best_epoch}, the best on these same validation images, which makes the figures "
            "slightly optimistic"
        ),
        "Seed": f"{config.seed}: the same seed gives the same numbers on the same machine",
    }
    if isinstance(recipe, Recipe):
        rows["Augmentation"] = str(recipe.augment)
    changed = changed_settings(task, begun, own_images=data is not None)
    settings = (
        table("Settings that differ from the recipe", ("setting", "in this run", "in the recipe"), changed)
        if changed
        else el("p", "All settings are the recipe's.", class_="note")
    )
    notices = [el("p", notice, class_="note") for notice in begun.get("notices", task.notices)]
    return facts({**rows, **provenance()}), settings, notices


def changed_settings(task: Any, begun: Mapping[str, Any], own_images: bool) -> list[tuple[str, str, str]]:
    """Return the settings of a run that its recipe sets otherwise: name, value, and the recipe's value."""
    own, usual = task.recipe, _usual(task, begun, own_images)
    if usual is None:
        return []
    now, then = begun.get("settings", asdict(own.train)), asdict(usual.train)
    pairs = [(one.flag if one.on_command_line else one.name, one.name) for one in declarations(TrainConfig)]
    rows = [(shown, now[name], then[name]) for shown, name in pairs if name in now]
    rows = [("model", own.model, usual.model), *rows]
    for name in ("fit", "augment", "inference", "drop_path", "options", "mask_suffix", "zero_ignored"):
        rows += _fields(name, getattr(own, name, None), getattr(usual, name, None))
    return [(name, _short(value), _short(other)) for name, value, other in rows if _plain(value) != _plain(other)]


def _start(begun: Mapping[str, Any]) -> str:
    start = begun.get("start")
    if not start:
        return "random weights"
    return f"{start['source']}: {many(len(start['loaded']), 'tensor')} loaded, {len(start['new']):,} new"


def _usual(task: Any, begun: Mapping[str, Any], own_images: bool) -> BaseRecipe | None:
    """Return the recipe of this name as it is without options; None if it is a recipe of one's own."""
    try:
        usual = get_recipe(task.recipe.name, own_images=own_images)
    except FovealError:
        return None
    if usual.kind != task.kind:
        return None
    return usual.for_images(task.train_size, from_weights=bool(begun.get("start")))


def _fields(name: str, own: Any, usual: Any) -> list[tuple[str, Any, Any]]:
    """Return a field of two recipes, or the fields that it has itself."""
    if hasattr(own, "__dataclass_fields__") and type(own) is type(usual):
        pairs = [(f"{name}.{key}", key, value) for key, value in vars(own).items()]
        return [(NAMES.get(full, key.replace("_", " ")), value, getattr(usual, key)) for full, key, value in pairs]
    return [(name.replace("_", " "), own, usual)]


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    is_size = isinstance(value, list | tuple) and len(value) == 2 and all(type(side) is int for side in value)
    text = "none" if value is None else TIMES.join(map(str, value)) if is_size else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
