"""How a run went, from the records of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.report.chart import Series, line_chart
from foveal.report.markup import Child, el
from foveal.report.pieces import table

COLUMNS = {
    "epoch": "{:d}",
    "train_loss": "{:.4f}",
    "val_loss": "{:.4f}",
    "train_top1": "{:.2f}",
    "val_top1": "{:.2f}",
    "lr": "{:.2e}",
    "images_per_second": "{:.0f}",
    "seconds": "{:.1f}",
}
HEADER = (
    "epoch",
    "training loss",
    "validation loss",
    "training accuracy, %",
    "validation accuracy, %",
    "learning rate",
    "images/s",
    "seconds",
)


HOW_MEASURED = (
    "Training figures are means over an epoch in which the weights change, on augmented images and against smoothed "
    "labels where the recipe asks for them; validation figures are taken after the epoch, on images as they are. So "
    "the training loss may well be the higher one."
)


def training_curves(history: Sequence[Mapping[str, Any]]) -> Child:
    """Loss, accuracy and learning rate over epochs as charts, and the same numbers as a table that one can open.

    Args:
        history: a record an epoch, as the training loop writes them for a classifier.
    """
    epochs = [record["epoch"] for record in history]
    values = {key: [record[key] for record in history] for key in COLUMNS}
    charts = (
        line_chart("Loss", epochs, _pair(values, "loss"), "{:.3f}".format, floor=0),
        line_chart("Accuracy, %", epochs, _pair(values, "top1"), "{:.4g}".format),
        line_chart("Learning rate x 1000", epochs, [_thousandths(values["lr"])], "{:.3g}".format, floor=0),
    )
    rows = [[form.format(record[key]) for key, form in COLUMNS.items()] for record in history]
    numbers = el("details", el("summary", "The numbers, epoch by epoch"), table("Every epoch of the run", HEADER, rows))
    return el("div", charts, class_="charts"), el("p", HOW_MEASURED, class_="note"), numbers


def _pair(values: Mapping[str, list[float]], name: str) -> list[Series]:
    return [
        Series("training", values[f"train_{name}"], "fovea"),
        Series("validation", values[f"val_{name}"], "periphery"),
    ]


def _thousandths(rates: list[float]) -> Series:
    return Series("last", [1000 * rate for rate in rates], "fovea")
