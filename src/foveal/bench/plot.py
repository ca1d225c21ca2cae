"""Charts of measurements: bars with their spread, and lines against the image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.bench.operators import OperatorSubject
from foveal.bench.results import Growth, Result
from foveal.bench.subjects import ModelSubject, Subject, is_ours
from foveal.errors import FovealError
from foveal.plotting import COLOURS, MUTED, matplotlib, new_figure, plain, plain_logarithms, save_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
PEER = "#999999"
_BAR, _HEAD, _WIDTH, _LINES_WIDTH = 0.24, 0.95, 8.0, 11.0  # inches


def check_plot(path: Path) -> None:
    """Raise FovealError, before the measurements, if the chart could not be drawn or written."""
    matplotlib("figure")
    if path.suffix not in SUFFIXES:
        raise FovealError(f"--plot writes {', '.join(SUFFIXES)} files, not {path.name}.")
    if not path.parent.is_dir():
        raise FovealError(f"There is no folder {path.parent} to write {path.name} into: create it first.")


def draw_bars(path: Path, results: Sequence[Result], note: str) -> None:
    """Draw one panel per setting and operator, with one bar per subject: its median, and a line from p20 to p80.

    Networks are drawn as speedup over their baseline if there is one, operators as milliseconds.

    Raises:
        FovealError: matplotlib is not installed.
    """
    panels = _panels(results)
    heights = [_HEAD + _BAR * len(panel) for panel in panels.values()]
    figure = new_figure(_WIDTH, sum(heights) + 0.35)
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    forms = list(dict.fromkeys(r.subject.form for r in results))
    for one, (title, panel) in zip(axes, panels.items()):
        _bar_panel(one, title, panel, forms)
    _finish(figure, path, note)


def draw_growth(path: Path, grown: Mapping[str, Sequence[Growth]], note: str) -> None:
    """Draw milliseconds per image, growth of the time per pixel, and memory if measured, against the image size.

    There is one row of panels per title.

    Raises:
        FovealError: matplotlib is not installed.
    """
    with_memory = any(peak is not None for found in grown.values() for one in found for peak in one.peak)
    figure = new_figure(_LINES_WIDTH if with_memory else 0.7 * _LINES_WIDTH, 3.6 * len(grown) + 0.2)
    rows = figure.subplots(len(grown), 2 + with_memory, squeeze=False)
    for axes, (title, found) in zip(rows, grown.items(), strict=True):
        times = [[1e3 * s for s in one.seconds] for one in found]
        _line_panel(axes[0], f"{title}\nms per image", found, times)
        _line_panel(axes[1], "time per pixel, relative to the smallest size", found, [one.growth for one in found])
        axes[0].set_yscale("log")
        axes[1].set_ylim(bottom=0)
        if with_memory:
            peaks = [[None if p is None else p / 2**20 for p in one.peak] for one in found]
            _line_panel(axes[2], "MiB per image, beyond the network", found, peaks)
            axes[2].set_yscale("log")
        for one in axes[0:3:2]:
            plain_logarithms(one.yaxis)
            _room_for_legend(one)
        axes[0].legend(frameon=False, fontsize=7, loc="upper left")
    _finish(figure, path, note)


def _panels(results: Sequence[Result]) -> dict[str, list[Result]]:
    panels: dict[str, list[Result]] = {}
    for result in results:
        subject = result.subject
        what = f"{subject.place.operator}: " if isinstance(subject, OperatorSubject) else ""
        panels.setdefault(f"{what}{result.setting}", []).append(result)
    return panels


def _bar_panel(axes: Axes, title: str, panel: Sequence[Result], forms: list[str]) -> None:
    by_ratio = any(r.ratio for r in panel) and not isinstance(panel[0].subject, OperatorSubject)
    labels = []
    for index, result in enumerate(panel):
        spread = result.ratio if by_ratio else result.seconds
        unit = 1 if by_ratio else 1e3
        labels.append(f"{_short_name(result)}, {result.subject.form}")
        if spread is None:
            continue
        low, middle, high = (unit * value for value in (spread.p20, spread.p50, spread.p80))
        axes.barh(index, middle, height=0.7, color=_colour(result.subject, forms))
        axes.plot([low, high], [index, index], color="black", linewidth=1, solid_capstyle="butt")
        axes.annotate(f"{middle:.3g}", (high, index), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(panel)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10, loc="left")
    baseline = next((r.baseline for r in panel if r.baseline), None)
    axes.set_xlabel(f"speedup over {baseline.name}" if by_ratio and baseline else "ms per call", fontsize=8)
    if by_ratio:
        axes.axvline(1, color=MUTED, linewidth=1, linestyle=":")
    plain(axes, "x")


def _line_panel(axes: Axes, title: str, grown: Sequence[Growth], values: Sequence[Sequence[float | None]]) -> None:
    for index, (one, line) in enumerate(zip(grown, values, strict=True)):
        points = [(height * width, y) for (height, width), y in zip(one.sizes, line, strict=True) if y]
        dashes = "--" if "pool_size" in one.name else "-"
        style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "linestyle": dashes}
        axes.plot(*zip(*points), marker="o", markersize=3, linewidth=1.5, label=f"{one.name}, {one.form}", **style)
    axes.set_xscale("log")
    sizes = sorted({size for one in grown for size in one.sizes}, key=lambda s: s[0] * s[1])
    names = [str(h) if h == w else f"{h}x{w}" for h, w in sizes]
    axes.set_xticks([h * w for h, w in sizes], names, fontsize=8)
    axes.xaxis.set_minor_locator(matplotlib("ticker").NullLocator())
    axes.set_xlabel("side of the image, pixels", fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    plain(axes, "both")


def _room_for_legend(axes: Axes) -> None:
    """Leave room above the lines of a logarithmic axis for the legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)


def _colour(subject: Subject, forms: list[str]) -> str:
    """Return one colour per form or backend; peers are grey."""
    if isinstance(subject, ModelSubject) and not is_ours(subject.model):
        return PEER
    return COLOURS[forms.index(subject.form) % len(COLOURS)]


def _short_name(result: Result) -> str:
    subject = result.subject
    return subject.place.title if isinstance(subject, OperatorSubject) else subject.name


def _finish(figure: Figure, path: Path, note: str) -> None:
    figure.supxlabel(note, fontsize=7, color=MUTED, x=0.02, ha="left")
    save_whole(figure, path)
