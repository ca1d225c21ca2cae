"""The curves of a run as a picture, from the logs in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError
from foveal.plotting import COLOURS, new_figure, plain, save_whole
from foveal.training.journal import METRICS, STEPS
from foveal.training.log import JsonLines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "curves.png"
TRAINED, VALIDATED = COLOURS[0], COLOURS[5]
Records = Sequence[Mapping[str, Any]]


def draw_curves(folder: Path) -> Path:
    """Draw loss, metrics, learning rate and speed of the run in ``folder`` into its ``curves.png``; returns its path.

    The x axis counts epochs, so that both logs share it: ``steps.jsonl`` gives the training lines, ``metrics.jsonl``
    the validation points.

    Raises:
        FovealError: matplotlib is not installed, or the folder holds no finished epoch.
    """
    steps, epochs = JsonLines(folder / STEPS).read(), JsonLines(folder / METRICS).read()
    if not (steps and epochs):
        raise FovealError(f"{folder} holds no finished epoch to draw: train for one at least.")
    figure = new_figure(10, 6.4)
    axes = figure.subplots(2, 2).flatten()
    place = _epoch_places(steps, epochs)
    _draw_pair(axes[0], "Loss", steps, place, epochs, "loss")
    _draw_metrics(axes[1], steps, place, epochs)
    axes[2].plot(place, [step["lr"] for step in steps], color=TRAINED)
    axes[2].set_title("Learning rate", loc="left", fontsize=10)
    _draw_speed(axes[3], steps, place)
    for one in axes:
        one.set_xlabel("epoch", fontsize=8)
        plain(one, "both")
    save_whole(figure, folder / PICTURE)
    return folder / PICTURE


def _epoch_places(steps: Records, epochs: Records) -> list[float]:
    """Where each look lies on an axis of epochs."""
    updates = epochs[0]["step"] / epochs[0]["epoch"]
    return [step["update"] / updates for step in steps]


def _draw_pair(axes: Axes, title: str, steps: Records, place: list[float], epochs: Records, name: str) -> None:
    """Training as a thin line of looks, validation as points after each epoch, where they were logged."""
    if name in steps[0]:
        axes.plot(place, [step[name] for step in steps], color=TRAINED, linewidth=0.8, alpha=0.75, label="training")
    if f"val_{name}" in epochs[0]:
        at = [record["epoch"] for record in epochs]
        values = [record[f"val_{name}"] for record in epochs]
        axes.plot(at, values, color=VALIDATED, marker="o", markersize=3, label="validation")
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _draw_metrics(axes: Axes, steps: Records, place: list[float], epochs: Records) -> None:
    """The first metric of the validation that is not its loss, with what training says of it."""
    names = [key.removeprefix("val_") for key in epochs[0] if key.startswith("val_") and key != "val_loss"]
    if names:
        _draw_pair(axes, names[0], steps, place, epochs, names[0])


def _draw_speed(axes: Axes, steps: Records, place: list[float]) -> None:
    """Images a second between two looks."""
    speed = [step["images_per_second"] for step in steps]
    axes.plot(place, speed, color=TRAINED, linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_title("Images a second", loc="left", fontsize=10)
