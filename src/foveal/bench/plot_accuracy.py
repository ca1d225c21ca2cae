"""Chart of speed against published accuracy: one labelled point per network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.bench.labels import Box, place_labels
from foveal.bench.measure import ratios
from foveal.bench.peers import FAMILIES, SIZE, Accuracy
from foveal.bench.results import Result
from foveal.bench.settings import Setting
from foveal.bench.subjects import BASELINE, published_accuracy
from foveal.plotting import COLOURS, MUTED, matplotlib, new_figure, plain, plain_logarithms, save_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_WIDTH, _HEIGHT = 8.0, 6.0  # inches, per panel
_OURS = {"TransNeXt": (COLOURS[0], "o"), "TransXNet": (COLOURS[5], "s")}
_SHAPES = dict(zip(FAMILIES, cycle("Dv^<>Pp*hXd8")))  # of the families of timm
_MARKER = 8.0  # points
_AIR = 6.0  # points between two labels
_DASH = 6.0  # points between the places at which a line counts as an obstacle
_FAR = 6.0  # points between a marker and its label from which a line connects them


@dataclass(frozen=True)
class Point:
    """A network in its fastest measured form.

    Attributes:
        accuracy: its names and published accuracy.
        form: its form.
        speed: images per second, relative to those of ConvNeXt-T if that was measured.
    """

    accuracy: Accuracy
    form: str
    speed: float

    @property
    def ours(self) -> bool:
        """Whether it is a network of foveal."""
        return self.accuracy.family in _OURS


def points(results: Sequence[Result]) -> tuple[list[Point], bool]:
    """Return the points of one setting, ours first, and whether speeds are relative to ConvNeXt-T.

    Networks without a published accuracy have no point.
    """
    fastest: dict[Accuracy, Result] = {}
    for result in results:
        accuracy = published_accuracy(result.subject)
        if accuracy is not None:
            fastest[accuracy] = min(fastest.get(accuracy, result), result, key=lambda r: r.seconds.p50)
    baseline = next((r for r in fastest.values() if r.subject.name == BASELINE), None)
    found = [Point(accuracy, r.subject.form, _speed(r, baseline)) for accuracy, r in fastest.items()]
    found.sort(key=lambda p: (not p.ours, p.accuracy.family, p.accuracy.top1))
    return found, baseline is not None


def _speed(result: Result, baseline: Result | None) -> float:
    if baseline is None:
        return result.setting.batch / result.seconds.p50
    return statistics.median(ratios(baseline.per_round, result.per_round))


def draw_accuracy(path: Path, results: Sequence[Result], note: str) -> None:
    """Draw published top-1 against speed, one panel per setting: foveal's networks filled, timm's hollow.

    Raises:
        FovealError: matplotlib is not installed.
    """
    panels: dict[Setting, list[Result]] = {}
    for result in results:
        panels.setdefault(result.setting, []).append(result)
    figure = new_figure(_WIDTH, _HEIGHT * len(panels))
    figure.supxlabel(note, fontsize=7, color=MUTED, x=0.02, ha="left")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    drawn = [_panel(axes, setting, panel) for axes, (setting, panel) in zip(grid, panels.items(), strict=True)]
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # fixes the layout, on which the places of the labels depend
    for axes, found in zip(grid, drawn, strict=True):
        _label(axes, found)
    save_whole(figure, path)


def _panel(axes: Axes, setting: Setting, results: Sequence[Result]) -> list[Point]:
    found, relative = points(results)
    for family, (colour, shape) in _OURS.items():
        own = [p for p in found if p.ours and p.accuracy.family == family]
        places = [p.speed for p in own], [p.accuracy.top1 for p in own]
        axes.plot(*places, marker=shape, markersize=_MARKER, color=colour, linewidth=1, zorder=3)
    for p in found:
        if not p.ours:
            hollow: dict[str, Any] = {"color": "none", "markerfacecolor": "white", "markeredgecolor": MUTED}
            axes.plot(p.speed, p.accuracy.top1, marker=_SHAPES[p.accuracy.family], markersize=_MARKER - 1, **hollow)
    axes.set_xscale("log")
    axes.margins(x=0.09, y=0.07)
    plain_logarithms(axes.xaxis)
    axes.set_xlabel("speed relative to ConvNeXt-T" if relative else "images per second", fontsize=9)
    axes.set_ylabel(f"published ImageNet-1K top-1 at {SIZE} pixels, %", fontsize=9)
    axes.set_title(_title(setting, found), fontsize=9, loc="left")
    plain(axes, "both")
    return found


def _title(setting: Setting, found: Sequence[Point]) -> str:
    """Return the setting, the forms of both sides, and a warning if the accuracies are for another size."""
    ours, others = (", ".join(dict.fromkeys(p.form for p in found if p.ours == side)) for side in (True, False))
    title = f"{setting}; filled: foveal ({ours}), hollow: timm ({others})"
    if (setting.height, setting.width) == (SIZE, SIZE):
        return title
    return f"{title}\nthe accuracies are for {SIZE} pixels, not for this size"


def _label(axes: Axes, found: Sequence[Point]) -> None:
    """Write the names of all points; a thin line leads to those that had to move away from their marker."""
    scale = 72 / axes.figure.dpi  # points per pixel
    where = [axes.transData.transform((p.speed, p.accuracy.top1)) * scale for p in found]
    markers = [Box(x, y, _MARKER, _MARKER) for x, y in where]
    texts = [_name(axes, p) for p in found]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width * scale + _AIR, extent.height * scale) for extent in extents]
    left, bottom, width, height = (length * scale for length in axes.get_window_extent().bounds)
    frame = Box(left + width / 2, bottom + height / 2, width, height)
    places = place_labels(markers, sizes, frame, _lines(found, markers))
    for text, marker, place in zip(texts, markers, places, strict=True):
        text.xyann = place.x - marker.x, place.y - marker.y
        if place.distance(marker) > _FAR:
            x, y = place.nearest(marker)
            line: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "color": MUTED, "shrinkB": _MARKER / 2}
            start: dict[str, Any] = {"xytext": (x - marker.x, y - marker.y), "textcoords": "offset points"}
            axes.annotate("", text.xy, arrowprops=line, **start).set_in_layout(False)


def _name(axes: Axes, point: Point) -> Annotation:
    colour, weight = (_OURS[point.accuracy.family][0], "bold") if point.ours else ("#333333", "normal")
    style: dict[str, Any] = {"fontsize": 7.5, "color": colour, "fontweight": weight, "ha": "center", "va": "center"}
    where = point.speed, point.accuracy.top1
    text = axes.annotate(point.accuracy.label, where, (0, 0), textcoords="offset points", **style)
    text.set_in_layout(False)
    return text


def _lines(found: Sequence[Point], markers: Sequence[Box]) -> list[Box]:
    """Return small boxes along the lines that connect our networks of one family."""
    boxes = []
    for (p, start), (q, end) in pairwise(zip(found, markers, strict=True)):
        if p.ours and q.accuracy.family == p.accuracy.family:
            steps = int(math.dist((start.x, start.y), (end.x, end.y)) / _DASH) + 1
            for part in (step / steps for step in range(steps + 1)):
                where = start.x + part * (end.x - start.x), start.y + part * (end.y - start.y)
                boxes.append(Box(*where, _DASH / 2, _DASH / 2))
    return boxes
