"""Line charts of a page as inline SVG, which take the page's colours and font."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveal.report.page import Html, el

WIDTH, HEIGHT = 360, 240  # units of the drawing; at phone width one unit is about one CSS pixel
RIGHT, TOP, BOTTOM = 12, 20, 42
NARROWEST_LEFT, CHARACTER = 34, 7  # units: left of the axis, and of a character of a tick
COLOURS = ("fovea", "periphery", "third", "fourth", "fifth", "sixth")  # classes of the page's style
MOST_DECIMALS = 7  # of a tick


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, one y value per x (None for a gap), and the name of its CSS colour class.

    ``x`` are its own x values, if they are not the chart's.
    """

    name: str
    values: Sequence[float | None]
    colour: str
    x: Sequence[float] | None = None


@dataclass(frozen=True)
class Mark:
    """A value of x that is marked by a line, and what is written beside it."""

    x: float
    name: str


@dataclass(frozen=True)
class Axis:
    """The x axis: its name, and the values that are written below it; round ones if there are none."""

    name: str
    ticks: Sequence[float] = ()


def line_chart(
    title: str,
    x: Sequence[float],
    series: Sequence[Series],
    axis: Axis,
    label: Callable[[float], str] = "{:g}".format,
    floor: float | None = None,
    ceiling: float | None = None,
    mark: Mark | None = None,
    y_name: str | None = None,
) -> Html:
    """Return a figure with a heading, a legend, and one line per series.

    The legend has the value of each line at the mark, or its last one.

    Args:
        title: the heading, with the unit if there is one.
        x: x values of the series that have none of their own.
        series: lines of the same length as their x values.
        axis: of x.
        label: formats the values of the legend.
        floor, ceiling: ends of the y axis; from the values if None.
        mark: an x value to mark.
        y_name: what y is, if the title does not say it.
    """
    known = [value for line in series for value in line.values if value is not None]
    ticks = nice_ticks(min(known) if floor is None else floor, max(known) if ceiling is None else ceiling)
    names = tick_labels(ticks)
    across = [at for line in series for at in (x if line.x is None else line.x)]
    left = max(NARROWEST_LEFT, 8 + CHARACTER * max(map(len, names)))
    frame = _Frame(left, min(across), max(across), ticks[0], ticks[-1])
    below = axis.ticks or nice_ticks(frame.first, frame.last)
    legend = [el("span", f"{line.name} {label(_value(line, x, mark))}", class_=line.colour) for line in series]
    drawing = el(
        "svg",
        [frame.grid_line(tick, name) for tick, name in zip(ticks, names, strict=True)],
        [frame.below(tick, name) for tick, name in zip(below, tick_labels(below), strict=True)],
        frame.axis_name(axis.name),
        None if y_name is None else el("text", y_name, x=0, y=10),
        None if mark is None else frame.mark(mark),
        [frame.line(x if line.x is None else line.x, line, mark) for line in series],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_summary(title, x, series, axis, label, mark),
    )
    return el("figure", el("h3", title), el("p", legend, class_="legend"), drawing, class_="chart")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` evenly spaced round numbers, the first at most ``low`` and the last at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / (count - 1)))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * (count - 1) >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as decimal numbers with as many decimals as they need, alike for all: 0, 0.001, 0.002."""
    for decimals in range(MOST_DECIMALS + 1):
        if all(math.isclose(round(tick, decimals), tick, rel_tol=1e-6, abs_tol=1e-12) for tick in ticks):
            return ["0" if round(tick, decimals) == 0 else f"{tick:,.{decimals}f}" for tick in ticks]
    return [f"{tick:.2g}" for tick in ticks]


def whole_ticks(values: Sequence[int]) -> list[int]:
    """Return the first, the last, and round numbers of some whole ones, spaced far enough to be legible."""
    step = max(1, math.ceil(nice_ticks(0, max(values) - min(values))[1]))
    between = [
        value for value in values if value % step == 0 and min(value - values[0], values[-1] - value) >= step / 2
    ]
    return sorted({values[0], *between, values[-1]})


@dataclass(frozen=True)
class _Frame:
    """The plotting area: maps data to drawing units."""

    left: float
    first: float
    last: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return self.left + (value - self.first) / ((self.last - self.first) or 1) * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def grid_line(self, value: float, text: str) -> Html:
        y = f"{self.y(value):.1f}"
        line = el("line", x1=self.left, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        return el("g", line, el("text", text, x=self.left - 6, y=y, dy="0.35em", text_anchor="end"))

    def below(self, value: float, text: str) -> Html:
        return el("text", text, x=f"{self.x(value):.1f}", y=HEIGHT - 24, text_anchor="middle", class_="tick")

    def axis_name(self, name: str) -> Html:
        return el("text", name, x=(self.left + WIDTH - RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle")

    def mark(self, mark: Mark) -> Html:
        x = f"{self.x(mark.x):.1f}"
        end = self.x(mark.x) > (self.left + WIDTH) / 2
        line = el("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM)
        name = el("text", mark.name, x=x, y=TOP - 7, text_anchor="end" if end else "start")
        return el("g", line, name, class_="mark")

    def line(self, x: Sequence[float], series: Series, mark: Mark | None) -> Html:
        points = {at: (self.x(at), self.y(v)) for at, v in zip(x, series.values, strict=True) if v is not None}
        path = el("polyline", points=" ".join(f"{right:.1f},{down:.1f}" for right, down in points.values()))
        at = mark.x if mark is not None and mark.x in points else [*points][-1] if len(points) == 1 else None
        dot = None if at is None else el("circle", cx=f"{points[at][0]:.1f}", cy=f"{points[at][1]:.1f}", r=3)
        return el("g", path, dot, class_=f"line {series.colour}")


def _value(line: Series, x: Sequence[float], mark: Mark | None) -> float:
    """Return the value of a line at the mark, or the last that it has."""
    found = dict(zip(x if line.x is None else line.x, line.values, strict=True))
    marked = None if mark is None else found.get(mark.x)
    return next(value for value in reversed(line.values) if value is not None) if marked is None else marked


def _summary(
    title: str,
    x: Sequence[float],
    series: Sequence[Series],
    axis: Axis,
    label: Callable[[float], str],
    mark: Mark | None,
) -> str:
    verb = "ends at" if mark is None else "is"
    parts = [f"{line.name} {verb} {label(_value(line, x, mark))}" for line in series]
    at = "" if mark is None else f"; marked: {axis.name} {mark.x:g}, {mark.name}"
    return f"{title} by {axis.name}: {', '.join(parts)}{at}."
