"""The chart of an ablation: every seed as a point, each row's mean and deviation, in the paper's order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foveal.ablation.summary import Summary, SummaryRow
from foveal.errors import FovealError
from foveal.plotting import COLOURS, MUTED, new_figure, plain, save_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "ablation.png"
OTHERS, REFERENCE = COLOURS[0], COLOURS[5]
LONGEST = 34  # characters of a row's name
ABOVE, BELOW = -0.12, (0.1, 0.34)  # of a row's height: where the mean is drawn, and from where to where the seeds


def draw_ablation(summary: Summary, folder: Path) -> Path:
    """Draw the results into ``ablation.png`` of a folder; return its path.

    Raises:
        FovealError: matplotlib is not installed, or no run has ended.
    """
    if not any(row.values for row in summary.rows):
        raise FovealError("No run has ended, so there is nothing to draw.")
    figure = new_figure(8, 1.9 + 0.42 * len(summary.rows))
    axes = figure.subplots()
    for place, row in enumerate(summary.rows):
        _draw_row(axes, place, row)
    reference = next((row.sample for row in summary.rows if row.is_reference), None)
    if reference is not None:
        axes.axvline(reference.mean, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_yticks(range(len(summary.rows)), [_label(row) for row in summary.rows])
    axes.set_ylim(len(summary.rows) - 0.4, -0.6)
    plain(axes, "x")
    axes.tick_params(labelsize=10)
    axes.margins(x=0.06)
    axes.set_xlabel(f"top-1 after {_epochs(summary.epochs)}, in percent", fontsize=10)
    axes.set_title(f"{summary.title}\n{summary.origin}, trained on {_short(summary.images)}", loc="left", fontsize=11)
    _explain(axes, summary)
    save_whole(figure, folder / PICTURE)
    return folder / PICTURE


def _draw_row(axes: Axes, place: int, row: SummaryRow) -> None:
    """Draw the mean with a bar of a deviation to both sides, and below it the seeds in their order."""
    colour = REFERENCE if row.is_reference else OTHERS
    if row.sample is None:
        axes.text(0.01, place, "not finished", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
        return
    deviation = row.sample.deviation or None
    axes.errorbar(
        row.sample.mean, place + ABOVE, xerr=deviation, fmt="D", color=colour, markersize=6, capsize=4, linewidth=1.8
    )
    if row.sample.n > 1:
        first, last = BELOW
        heights = [place + first + (last - first) * index / (row.sample.n - 1) for index in range(row.sample.n)]
        values = [value for _, value in sorted(row.values.items())]
        axes.scatter(values, heights, s=16, facecolors="white", edgecolors=colour, linewidths=1)


def _explain(axes: Axes, summary: Summary) -> None:
    """Say below the axis what the marks mean."""
    several = any(row.sample is not None and row.sample.n > 1 for row in summary.rows)
    text = "diamond: the row's only seed"
    if several:
        text = "diamond: mean of a row; bar: one standard deviation to each side; circles: the seeds"
    if any(row.is_reference and row.sample is not None for row in summary.rows):
        text += "\norange and dotted: the paper's own network"
    axes.annotate(
        text, (0, 0), (0, -36), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9, color=MUTED
    )


def _label(row: SummaryRow) -> str:
    return row.name if len(row.name) <= LONGEST else row.name[: LONGEST - 3] + "..."


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def _short(images: str) -> str:
    return images if len(images) <= LONGEST else "..." + images[3 - LONGEST :]
