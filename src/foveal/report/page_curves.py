"""Training curves of a page: losses, the figure that selects the best epoch, and the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveal.report.history import TRAINED, VALIDATED, Record, begins_at_zero, beside, loss_parts, why_higher
from foveal.report.page import Child, Html, el, table
from foveal.report.page_chart import COLOURS, Axis, Mark, Series, line_chart, whole_ticks
from foveal.training.listener import COUNTS
from foveal.wording import decimal, digits, is_percent, spoken, title

OTHERS = ("lr", "images_per_second", "seconds", "data_wait_seconds", "broken_images")  # columns after the figures
HEADINGS = {"images_per_second": "images/s", "lr": "learning rate", "data_wait_seconds": "seconds of waiting"}
MOST_PARTS = len(COLOURS)
MOST_POINTS = 240  # of a curve of updates
MOST_ROWS = 400  # of the table
HOW_MEASURED = (
    "Training figures are averages over an epoch, during which the weights change. Validation figures are computed "
    "after the epoch."
)


def training_curves(
    history: Sequence[Record],
    steps: Sequence[Record],
    monitor: str,
    best_epoch: int,
    differences: Sequence[str] = (),
) -> Child:
    """Return charts of losses, of the monitored figure and of the learning rate, and the numbers as a folded table.

    Args:
        history: one record per epoch, as in ``metrics.jsonl``.
        steps: one record every few updates, as in ``steps.jsonl``.
        monitor: the figure that selects the best epoch.
        best_epoch: that epoch, which is marked.
        differences: what makes a training image harder than a validation image, each a sentence's part.
    """
    epochs = [record["epoch"] for record in history]
    mark, axis = Mark(best_epoch, f"best: epoch {best_epoch}"), Axis("epoch", whole_ticks(epochs))
    charts = [_losses(history, epochs, axis, mark), _parts(history, epochs, axis, mark)]
    charts += [_monitored(history, epochs, axis, mark, monitor), _rate(history, steps, axis)]
    notes = [HOW_MEASURED, why_higher(history, best_epoch, differences)]
    return (
        el("div", charts, class_="charts" if charts[1] is None else "charts even"),
        el("p", " ".join(filter(None, notes)), class_="note"),
        el("details", el("summary", "The numbers, epoch by epoch"), _numbers(history)),
    )


def _losses(history: Sequence[Record], epochs: Sequence[int], axis: Axis, mark: Mark) -> Html:
    lines = [_series(history, f"{TRAINED}loss", "training", "fovea")]
    if f"{VALIDATED}loss" in history[0]:
        lines.append(_series(history, f"{VALIDATED}loss", "validation", "periphery"))
    return line_chart("Loss", epochs, lines, axis, digits, floor=0, mark=mark)


def _parts(history: Sequence[Record], epochs: Sequence[int], axis: Axis, mark: Mark) -> Html | None:
    trained = [key.removeprefix(TRAINED) for key in history[0] if key.startswith(TRAINED)]
    names = loss_parts(trained, history[0])[:MOST_PARTS]
    if not names:
        return None
    lines = [_series(history, TRAINED + name, title(name), COLOURS[at]) for at, name in enumerate(names)]
    return line_chart("Parts of the training loss", epochs, lines, axis, digits, floor=0, mark=mark)


def _monitored(history: Sequence[Record], epochs: Sequence[int], axis: Axis, mark: Mark, monitor: str) -> Html:
    names, lines = beside(history[0], monitor), []
    if f"{TRAINED}{monitor}" in history[0]:
        lines.append(_series(history, TRAINED + monitor, "training", "fovea"))
    for name, colour in zip(names, COLOURS[1:], strict=False):
        lines.append(_series(history, VALIDATED + name, "validation" if len(names) == 1 else title(name), colour))
    unit = ", %" if is_percent(monitor) else ""
    floor = 0 if begins_at_zero(monitor) else None
    label = "{:.2f}".format if is_percent(monitor) else digits
    heading = spoken(monitor) if len(names) == 1 else "Average precision"
    return line_chart(f"{heading}{unit}", epochs, lines, axis, label, floor, mark=mark)


def _rate(history: Sequence[Record], steps: Sequence[Record], axis: Axis) -> Html:
    """Draw the rate by update if updates were logged, otherwise of each epoch's last one."""
    if steps and history[0].get("step"):
        per_epoch = history[0]["step"] / history[0]["epoch"]
        shown = [*steps[:: -(-len(steps) // MOST_POINTS)], steps[-1]]
        x, values = [step["update"] / per_epoch for step in shown], [step["lr"] for step in shown]
    else:
        x, values = [record["epoch"] for record in history], [record["lr"] for record in history]
    line = Series(f"highest {decimal(max(values))}", values, "fovea", x)
    return line_chart("Learning rate", x, [line], axis, lambda _: "", floor=0)


def _series(history: Sequence[Record], key: str, name: str, colour: str) -> Series:
    return Series(name, [record.get(key) for record in history], colour)


def _numbers(history: Sequence[Record]) -> Html:
    every = -(-len(history) // MOST_ROWS)
    names = [key for key in history[-1] if key.startswith((TRAINED, VALIDATED)) and key not in COUNTS]
    columns = ["epoch", *names, *(name for name in OTHERS if name in history[-1])]
    rows = [[_cell(name, record.get(name)) for name in columns] for record in history[::every]]
    caption = "Every epoch of the run" if every == 1 else f"One of {every} epochs of the run"
    return table(caption, [_heading(name) for name in columns], rows)


def _heading(key: str) -> str:
    for prefix, word in ((TRAINED, "training"), (VALIDATED, "validation")):
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            return f"{word} {title(name)}" + (", %" if is_percent(name) else "")
    return HEADINGS.get(key, key.replace("_", " "))


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in ("epoch", "broken_images"):
        return f"{value:d}"
    return f"{value:.2f}" if is_percent(key.removeprefix(TRAINED).removeprefix(VALIDATED)) else digits(value)
