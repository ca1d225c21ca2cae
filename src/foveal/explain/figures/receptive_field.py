"""The figure of effective receptive fields: one row per network, one column per stage, for print.

Knows arrays and no network. All panels share one logarithmic scale of shares of the panel's maximum, so that a colour
means the same everywhere. RepLKNet's log10(1 + contribution) would not: it shows a network with small derivatives on
a linear scale, and one with large ones on a logarithmic one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.errors import FovealError
from foveal.explain.field_measures import THRESHOLDS, area_ratios, decades
from foveal.plotting import matplotlib
from foveal.wording import TIMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from foveal.explain.receptive_field import ReceptiveFields

# Lightness rises evenly from black to white: it survives grey print and every kind of colour blindness.
COLOURS = "inferno"
DEPTH = 4  # decades below the maximum; what is less is black
SCALE = "contribution / maximum of the panel"
INK, MUTED = "#000000", "#444444"
TITLE, LABEL, SMALL = 10.0, 9.0, 7.5  # points, at the printed size
PANEL, GAP, EDGE = 1.42, 0.12, 0.12  # inches
LEFT, TOP, BELOW, BAR = 0.34, 0.42, 0.24, 0.62  # inches: names of rows, of columns, ratios below a panel, colour bar
_LINE = 0.145  # inches per line of the caption
_CHARACTERS = 17.6  # of the caption per inch


def receptive_field_figure(rows: Sequence[tuple[str, ReceptiveFields]], note: str = "") -> Figure:
    """Return the figure of the effective receptive fields of one or more networks.

    Below each panel are the area ratios for 20, 30, 50 and 99 % of the contributions (``area_ratios``). The caption
    explains both.

    Args:
        rows: name and fields of each network. Columns are the layers of the first.
        note: ends the caption: weights and settings of the networks, images.

    Raises:
        FovealError: no rows, rows of different layers or aspect ratios, or matplotlib is not installed.
    """
    layers = _common_layers(rows)
    height, width = rows[0][1].contributions.shape[1:]
    sheet = _Sheet(len(rows), len(layers), width / height, _caption(rows, note))
    figure = sheet.figure()
    for column, layer in enumerate(layers):
        sheet.column(figure, column, layer[:1].upper() + layer[1:])
    for row, (name, fields) in enumerate(rows):
        sheet.row(figure, row, name)
        for column, field in enumerate(fields.contributions):
            sheet.panel(figure, row, column, field)
    sheet.scale(figure)
    sheet.caption(figure)
    return figure


def _common_layers(rows: Sequence[tuple[str, ReceptiveFields]]) -> tuple[str, ...]:
    if not rows:
        raise FovealError("There is nothing to draw: pass the fields of at least one network.")
    layers, first = rows[0][1].layers, rows[0][1].contributions.shape[1:]
    for name, fields in rows:
        size = fields.contributions.shape[1:]
        if fields.layers != layers:
            raise FovealError(f"{name} has the layers {', '.join(fields.layers)}: all rows need {', '.join(layers)}.")
        if size[0] * first[1] != size[1] * first[0]:
            raise FovealError(f"The images of {name} have another aspect ratio: all rows need the same.")
    return layers


def _caption(rows: Sequence[tuple[str, ReceptiveFields]], note: str) -> str:
    counts = sorted({fields.images for _, fields in rows})
    images = " or ".join(f"{count} image{'s' if count != 1 else ''}" for count in counts)
    sizes = sorted({fields.contributions.shape[1:] for _, fields in rows})
    pixels = " or ".join(f"{height}{TIMES}{width}" for height, width in sizes)
    counted = "positive part" if rows[0][1].sign == "positive" else "absolute value"
    thresholds = "/".join(f"{100 * t:g}" for t in THRESHOLDS)
    return (
        f"Effective receptive field of the centre token: {counted} of the derivative of its channel sum with respect "
        f"to the {pixels} input, summed over colours, mean of {images}. The colour is logarithmic, the same share of "
        f"a panel's maximum in all panels. Below: area, in % of the image, of the smallest centred square with "
        f"{thresholds} % of log(1 + contribution). {note}"
    ).strip()


class _Sheet:
    """Layout of the figure, in inches from its upper left corner."""

    def __init__(self, rows: int, columns: int, aspect: float, caption: str):
        self.rows, self.columns = rows, columns
        self.panel_height = PANEL / max(aspect, 1.0) if aspect > 1 else PANEL
        self.panel_width = self.panel_height * aspect
        self.width = EDGE + LEFT + columns * (self.panel_width + GAP) - GAP + 0.1 + BAR + EDGE
        self.lines = textwrap.wrap(caption, max(int((self.width - 2 * EDGE) * _CHARACTERS), 20))
        self.grid_height = rows * (self.panel_height + BELOW + 0.06) - 0.06
        self.height = TOP + self.grid_height + 0.14 + len(self.lines) * _LINE + EDGE

    def figure(self) -> Figure:
        return matplotlib("figure").Figure(figsize=(self.width, self.height), facecolor="white")

    def place(self, row: int, column: int) -> tuple[float, float]:
        """Return left and top of a panel."""
        left = EDGE + LEFT + column * (self.panel_width + GAP)
        return left, TOP + row * (self.panel_height + BELOW + 0.06)

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return figure.add_axes(box)

    def text(self, figure: Figure, left: float, top: float, text: str, size: float, **style: Any) -> None:
        figure.text(left / self.width, 1 - top / self.height, text, fontsize=size, **style)

    def column(self, figure: Figure, column: int, name: str) -> None:
        left, top = self.place(0, column)
        self.text(figure, left + self.panel_width / 2, top - 0.1, name, TITLE, color=INK, ha="center", va="baseline")

    def row(self, figure: Figure, row: int, name: str) -> None:
        _, top = self.place(row, 0)
        middle = top + self.panel_height / 2
        style = dict(color=INK, ha="center", va="center", rotation=90)
        self.text(figure, EDGE + LEFT / 2 - 0.04, middle, name, LABEL, **style)

    def panel(self, figure: Figure, row: int, column: int, field: np.ndarray) -> None:
        left, top = self.place(row, column)
        axes = self.axes(figure, left, top, self.panel_width, self.panel_height)
        shown = decades(field, DEPTH)
        axes.imshow(shown, cmap=COLOURS, vmin=-DEPTH, vmax=0, interpolation="nearest", aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linewidth(0.5)
        ratios = " / ".join(_percent(ratio) for ratio in area_ratios(field))
        below = top + self.panel_height + 0.06
        style = dict(color=MUTED, ha="center", va="top")
        self.text(figure, left + self.panel_width / 2, below, ratios, SMALL, **style)

    def scale(self, figure: Figure) -> None:
        left = self.width - EDGE - BAR
        height = min(self.grid_height - BELOW, 2 * (self.panel_height + BELOW))
        top = TOP + (self.grid_height - BELOW - height) / 2
        axes = self.axes(figure, left, top, 0.11, height)
        colours = matplotlib("cm").ScalarMappable(matplotlib("colors").Normalize(-DEPTH, 0), COLOURS)
        bar = figure.colorbar(colours, cax=axes, ticks=range(-DEPTH, 1))
        bar.ax.set_yticklabels([f"10$^{{{tick}}}$" if tick else "1" for tick in range(-DEPTH, 1)])
        bar.ax.tick_params(labelsize=SMALL, width=0.5, length=2, pad=2)
        bar.outline.set_linewidth(0.5)
        bar.set_label(SCALE, fontsize=SMALL, labelpad=3)

    def caption(self, figure: Figure) -> None:
        top = TOP + self.grid_height + 0.14
        self.text(figure, EDGE, top, "\n".join(self.lines), SMALL, color=MUTED, va="top", linespacing=1.3)


def _percent(ratio: float) -> str:
    """Two significant digits, at most whole percents: 0.24, 3.4, 26."""
    percent = 100 * ratio
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.1f}" if percent >= 0.995 else f"{percent:.2f}"
