"""Line charts as inline SVG: they take the page's colours, light or dark, and its font."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveal.report.markup import Html, el

WIDTH, HEIGHT = 360, 220  # units of the drawing; at phone width one unit is about one CSS pixel
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 34


@dataclass(frozen=True)
class Series:
    """One line: its name, a y value an epoch (None where there is none), and the name of its CSS colour class."""

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
    """A figure with a heading, a legend that gives the last values, and one line a series.

    Args:
        title: the heading, with the unit where there is one.
        epochs: x of every value.
        series: lines of the same length as `epochs`.
        label: how the last values are written in the legend.
        floor: the axis starts here; None takes the smallest value.
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
    """About `count` round numbers at even distances; the first is at most `low`, the last at least `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / (count - 1)))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * (count - 1) >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Frame:
    """The plotting area, from data to drawing units."""

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
    """First, last, and round epochs between, far enough apart to be read."""
    step = max(1, math.ceil(nice_ticks(0, max(epochs) - min(epochs))[1]))
    between = [
        epoch for epoch in epochs if epoch % step == 0 and min(epoch - epochs[0], epochs[-1] - epoch) >= step / 2
    ]
    return sorted({epochs[0], *between, epochs[-1]})


def _summary(title: str, series: Sequence[Series], label: Callable[[float], str]) -> str:
    parts = [f"{line.name} ends at {label(_last(line))}" for line in series]
    return f"{title} over epochs: {', '.join(parts)}."
