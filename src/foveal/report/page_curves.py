"""Training curves of a page: line charts as inline SVG, which take the page's colours and font."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveal.report.page import Child, Html, el, table

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
    "Training figures are averages over an epoch, during which the weights change; they use augmented images and, if "
    "the recipe says so, smoothed labels. Validation figures are computed after the epoch, on images without "
    "augmentation. The training loss can therefore be higher than the validation loss."
)

WIDTH, HEIGHT = 360, 220  # units of the drawing; at phone width one unit is about one CSS pixel
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 34


def training_curves(history: Sequence[Mapping[str, Any]]) -> Child:
    """Return loss, accuracy and learning rate over epochs as charts, and the same numbers as a folded table.

    Args:
        history: one record per epoch, as the training loop writes them for a classifier.
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


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, one y value per epoch (None for a gap), and the name of its CSS colour class."""

    name: str
    values: Sequence[float | None]
    colour: str


def line_chart(
    title: str,
    epochs: Sequence[int],
    series: Sequence[Series],
    label: Callable[[float], str] = "{:g}".format,
    floor: float | None = None,
) -> Html:
    """Return a figure with a heading, a legend with the last values, and one line per series.

    Args:
        title: the heading, with the unit if there is one.
        epochs: x values.
        series: lines of the same length as ``epochs``.
        label: formats the last values in the legend.
        floor: start of the y axis; the smallest value if None.
    """
    known = [value for line in series for value in line.values if value is not None]
    ticks = nice_ticks(min(known) if floor is None else floor, max(known))
    frame = _Frame(min(epochs), max(epochs), ticks[0], ticks[-1])
    legend = [el("span", f"{line.name} {label(_last(line))}", class_=line.colour) for line in series]
    drawing = el(
        "svg",
        [frame.grid_line(tick, f"{tick:g}") for tick in ticks],
        [frame.epoch_mark(epoch) for epoch in _epoch_ticks(epochs)],
        [frame.line(epochs, line) for line in series],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_summary(title, series, label),
    )
    return el("figure", el("h3", title), el("p", legend, class_="legend"), drawing, class_="chart")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` evenly spaced round numbers, the first at most ``low`` and the last at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / (count - 1)))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * (count - 1) >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Frame:
    """The plotting area: maps data to drawing units."""

    first: float
    last: float
    low: float
    high: float

    def x(self, epoch: float) -> float:
        return LEFT + (epoch - self.first) / ((self.last - self.first) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def grid_line(self, value: float, text: str) -> Html:
        y = f"{self.y(value):.1f}"
        line = el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        return el("g", line, el("text", text, x=LEFT - 6, y=y, dy="0.35em", text_anchor="end"))

    def epoch_mark(self, epoch: int) -> Html:
        return el("text", str(epoch), x=f"{self.x(epoch):.1f}", y=HEIGHT - 12, text_anchor="middle")

    def line(self, epochs: Sequence[int], series: Series) -> Html:
        points = [(self.x(e), self.y(v)) for e, v in zip(epochs, series.values, strict=True) if v is not None]
        path = el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
        end = el("circle", cx=f"{points[-1][0]:.1f}", cy=f"{points[-1][1]:.1f}", r=3)
        return el("g", path, end, class_=f"line {series.colour}")


def _last(line: Series) -> float:
    return next(value for value in reversed(line.values) if value is not None)


def _epoch_ticks(epochs: Sequence[int]) -> list[int]:
    """Return the first, the last, and round epochs between them, spaced far enough to be legible."""
    step = max(1, math.ceil(nice_ticks(0, max(epochs) - min(epochs))[1]))
    between = [
        epoch for epoch in epochs if epoch % step == 0 and min(epoch - epochs[0], epochs[-1] - epoch) >= step / 2
    ]
    return sorted({epochs[0], *between, epochs[-1]})


def _summary(title: str, series: Sequence[Series], label: Callable[[float], str]) -> str:
    parts = [f"{line.name} ends at {label(_last(line))}" for line in series]
    return f"{title} over epochs: {', '.join(parts)}."
