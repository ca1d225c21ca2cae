"""The chart of a training run, drawn from the logs in its folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError
from foveal.plotting import COLOURS, new_figure, plain, save_whole
from foveal.training.journal import LOGGED, METRICS, STEPS, JsonLines
from foveal.training.listener import over_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "curves.png"
TRAINED, VALIDATED, ALIKE = COLOURS[0], COLOURS[5], COLOURS[2]
PARTS = [colour for colour in COLOURS if colour != TRAINED]
Records = Sequence[Mapping[str, Any]]


def draw_curves(folder: Path) -> Path:
    """Draw loss, metrics, learning rate and speed of the run in ``folder`` into its ``curves.png``; return its path.

    The x axis counts epochs, which both logs share: ``steps.jsonl`` gives the training lines, ``metrics.jsonl`` the
    validation points.

    Raises:
        FovealError: matplotlib is not installed, or the folder holds no finished epoch.
    """
    steps, epochs = JsonLines(folder / STEPS).read(), JsonLines(folder / METRICS).read()
    if not (steps and epochs):
        raise FovealError(f"{folder} holds no finished epoch to draw: train for at least one.")
    figure = new_figure(10, 6.4)
    axes = figure.subplots(2, 2).flatten()
    x = _epochs_of_steps(steps, epochs)
    _draw_losses(axes[0], steps, x, epochs)
    _draw_metrics(axes[1], steps, x, epochs)
    axes[2].plot(x, [step["lr"] for step in steps], color=TRAINED)
    axes[2].set_title("Learning rate", loc="left", fontsize=10)
    _draw_speed(axes[3], steps, x)
    for one in axes:
        one.set_xlabel("epoch", fontsize=8)
        plain(one, "both")
    save_whole(figure, folder / PICTURE)
    return folder / PICTURE


def _epochs_of_steps(steps: Records, epochs: Records) -> list[float]:
    """Return the position of each logged step on an axis of epochs."""
    updates = epochs[0]["step"] / epochs[0]["epoch"]
    return [step["update"] / updates for step in steps]


def _draw_losses(axes: Axes, steps: Records, x: list[float], epochs: Records) -> None:
    """Draw the loss and, if it is a sum, its parts."""
    parts = [name for name in steps[0] if name not in LOGGED and f"val_{name}" not in epochs[0]]
    for colour, name in zip(itertools.cycle(PARTS), parts, strict=False):
        axes.plot(x, [step[name] for step in steps], color=colour, linewidth=0.8, label=name)
    _draw_trained(axes, steps, x, "loss", "sum" if parts else "training")
    _draw_validated(axes, epochs, "loss", VALIDATED, "validation")
    _title(axes, "Loss")


def _draw_metrics(axes: Axes, steps: Records, x: list[float], epochs: Records) -> None:
    """Draw the first validation metric that is not the loss and those of its kind (box_ap, mask_ap), each with its
    training value if there is one."""
    names = [key.removeprefix("val_") for key in epochs[0] if key.startswith("val_") and key != "val_loss"]
    alike = [name for name in names if _kind(name) == _kind(names[0])]
    for colour, name in zip((VALIDATED, ALIKE), alike, strict=False):
        _draw_trained(axes, steps, x, name, "training")
        _draw_validated(axes, epochs, name, colour, name if len(alike) > 1 else "validation")
    _title(axes, ", ".join(alike) + over_classes(epochs[-1]))


def _kind(metric: str) -> str:
    """Return the part of a name that related metrics share: "ap" of box_ap and mask_ap."""
    return metric.partition("_")[2] or metric


def _draw_trained(axes: Axes, steps: Records, x: list[float], name: str, label: str) -> None:
    """Draw a thin line through the logged steps, if they have this value."""
    if name in steps[0]:
        axes.plot(x, [step[name] for step in steps], color=TRAINED, linewidth=0.8, alpha=0.75, label=label)


def _draw_validated(axes: Axes, epochs: Records, name: str, colour: str, label: str) -> None:
    """Draw one point per epoch, if the epochs have this value."""
    if f"val_{name}" in epochs[0]:
        at = [record["epoch"] for record in epochs]
        values = [record[f"val_{name}"] for record in epochs]
        axes.plot(at, values, color=colour, marker="o", markersize=3, label=label)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _draw_speed(axes: Axes, steps: Records, x: list[float]) -> None:
    """Draw images per second between logged steps."""
    speed = [step["images_per_second"] for step in steps]
    axes.plot(x, speed, color=TRAINED, linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_title("Images per second", loc="left", fontsize=10)
