"""The chart of a training run, drawn from the logs in its folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError
from foveal.plotting import COLOURS, MUTED, new_figure, plain, plain_numbers, save_whole, whole_numbers
from foveal.report.history import begins_at_zero, beside, differences, loss_parts, why_higher
from foveal.training.journal import BEGINNING, METRICS, STEPS, JsonLines
from foveal.training.listener import over_classes
from foveal.wording import is_percent, spoken, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "curves.png"
TRAINED, VALIDATED, ALIKE = COLOURS[0], COLOURS[5], COLOURS[2]
PARTS = [colour for colour in COLOURS if colour != TRAINED]
Records = Sequence[Mapping[str, Any]]


def draw_curves(folder: Path, monitor: str, best_epoch: int) -> Path:
    """Draw loss, the monitored figure, learning rate and speed of the run in ``folder`` into its ``curves.png``; return
    its path.

    The x axis counts epochs, which both logs share: ``steps.jsonl`` gives the training lines, ``metrics.jsonl`` the
    validation points.

    Args:
        folder: of a run.
        monitor: the figure that selects the best epoch.
        best_epoch: that epoch, which is marked.

    Raises:
        FovealError: matplotlib is not installed, or the folder holds no finished epoch.
    """
    steps, epochs = JsonLines(folder / STEPS).read(), JsonLines(folder / METRICS).read()
    if not (steps and epochs):
        raise FovealError(f"{folder} holds no finished epoch to draw: train for at least one.")
    figure = new_figure(10, 6.6)
    axes = figure.subplots(2, 2).flatten()
    x = _epochs_of_steps(steps, epochs)
    _draw_losses(axes[0], steps, x, epochs)
    _draw_metrics(axes[1], steps, x, epochs, monitor)
    axes[2].plot(x, [step["lr"] for step in steps], color=TRAINED)
    axes[2].set_ylim(bottom=0)
    _title(axes[2], "Learning rate")
    _draw_speed(axes[3], steps, x)
    for one in axes:
        _mark(one, best_epoch)
        one.set_xlabel("epoch", fontsize=8)
        whole_numbers(one.xaxis)
        plain_numbers(one.yaxis)
        plain(one, "both")
    figure.supxlabel(_note(folder, epochs, best_epoch), fontsize=8, color=MUTED)
    save_whole(figure, folder / PICTURE)
    return folder / PICTURE


def _epochs_of_steps(steps: Records, epochs: Records) -> list[float]:
    """Return the position of each logged step on an axis of epochs."""
    updates = epochs[0]["step"] / epochs[0]["epoch"]
    return [step["update"] / updates for step in steps]


def _draw_losses(axes: Axes, steps: Records, x: list[float], epochs: Records) -> None:
    """Draw the loss and, if it is a sum, its parts."""
    parts = loss_parts(steps[0], epochs[0])
    for colour, name in zip(itertools.cycle(PARTS), parts, strict=False):
        axes.plot(x, [step[name] for step in steps], color=colour, linewidth=0.8, label=title(name))
    _draw_trained(axes, steps, x, "loss", "sum" if parts else "training")
    _draw_validated(axes, epochs, "loss", VALIDATED, "validation")
    axes.set_ylim(bottom=0)
    _title(axes, "Loss")


def _draw_metrics(axes: Axes, steps: Records, x: list[float], epochs: Records, monitor: str) -> None:
    """Draw the monitored figure and those of its kind (AP of boxes and masks), each with its training value if there is
    one."""
    alike = beside(epochs[0], monitor)
    for colour, name in zip((VALIDATED, ALIKE), alike, strict=False):
        _draw_trained(axes, steps, x, name, "training")
        _draw_validated(axes, epochs, name, colour, title(name) if len(alike) > 1 else "validation")
    if begins_at_zero(monitor):
        axes.set_ylim(bottom=0)
    unit = ", %" if is_percent(monitor) else ""
    heading = spoken(monitor) if len(alike) == 1 else "Average precision"
    _title(axes, f"{heading}{over_classes(epochs[-1])}{unit}")


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
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)


def _mark(axes: Axes, epoch: int) -> None:
    """Mark the best epoch by a dashed line."""
    axes.axvline(epoch, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)


def _note(folder: Path, epochs: Records, best_epoch: int) -> str:
    """Return what is below the panels: the best epoch, and why the training loss may lie above the validation loss."""
    file = folder / BEGINNING
    card = json.loads(file.read_text(encoding="utf-8")).get("card", {}) if file.exists() else {}
    return "\n".join(
        filter(None, (f"Dashed: best epoch, {best_epoch}.", why_higher(epochs, best_epoch, differences(card))))
    )


def _draw_speed(axes: Axes, steps: Records, x: list[float]) -> None:
    """Draw images per second between logged steps."""
    speed = [step["images_per_second"] for step in steps]
    axes.plot(x, speed, color=TRAINED, linewidth=0.8)
    axes.set_ylim(bottom=0)
    _title(axes, "Speed, images per second")
