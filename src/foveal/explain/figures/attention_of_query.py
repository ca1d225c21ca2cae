"""A paper's figure of one query's attention: what its window, its pooled cells and both together get, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from foveal.explain.figures.light import (
    LABEL,
    SIGNED,
    Canvas,
    bare,
    colour_bar,
    frame,
    logarithmic,
    number,
    percent,
    symmetric,
    titles,
)
from foveal.explain.token_grid import foveal_weights, mixed_weights, peripheral_weights
from foveal.plotting import new_figure
from foveal.wording import TIMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from foveal.explain.attention import AttentionMaps

_PANEL = 1.28  # inches
_MOST_HEADS = 8
_MOST_NUMBERS = 3  # side of the largest window whose weights are written into its cells


def query_figure(
    photo: np.ndarray,
    maps: AttentionMaps,
    title: str,
    caption: str,
    heads: Sequence[int] | None = None,
    positional: bool = False,
) -> Figure:
    """Draw one query: the photograph with its mark and window, then a column of maps for each head.

    All maps of weights share one logarithmic colour scale. They show the percentage of the query's attention that each
    token gets; a pooled key's is shared equally among its tokens. The foveal row shows the window enlarged, with the
    percentage that it gets in all. A block without a window has one row.

    Args:
        photo: (H, W, 3) uint8, at any resolution, of the image that the network saw.
        maps: the attention of that image.
        title: a few words.
        caption: the model, its weights, the settings, and the credit of the photograph.
        heads: which heads, counted from 0; None takes the first eight.
        positional: add a row of positional attention, which is added to the window's weights after the softmax.

    Raises:
        FovealError: matplotlib is not installed.
    """
    chosen = list(range(min(maps.heads, _MOST_HEADS)) if heads is None else heads)
    sheet = _Sheet(photo, maps, chosen)
    rows = ["foveal", "peripheral", "mixed"] if maps.window else ["all tokens"]
    rows += ["positional"] if positional and maps.window else []
    first, others = (2.1 if len(rows) > 1 else 1.3) * _PANEL, len(chosen) * (_PANEL + 0.04) + 1.2
    tall = sum(_PANEL * sheet.canvas.aspect + 0.2 for _ in rows)
    figure = new_figure(first + others, max(tall, first * sheet.canvas.aspect + 0.3) + 0.85)
    left, right = cast(Any, figure.subfigures(1, 2, width_ratios=[first, others]))
    sheet.photograph(left.subplots())
    grid = right.subplots(len(rows), len(chosen), squeeze=False)
    for line, name in zip(grid, rows, strict=True):
        sheet.row(line, name)
    for axes, head in zip(grid[0], chosen, strict=True):
        axes.set_title(f"head {head + 1}", fontsize=LABEL)
    weights = grid[: len(rows) - ("positional" in rows)]
    bar = dict(extend="min", aspect=8 * len(weights))
    colour_bar(right, weights.flat, sheet.scale, "attention per token (%)", on_photo=True, **bar)
    if "positional" in rows:
        colour_bar(right, grid[-1], sheet.signed, "added weight", on_photo=False, aspect=8)
    titles(figure, title, caption)
    return figure


class _Sheet:
    """The maps of the chosen heads in percent, their colour scales, and one method for each part of the figure."""

    def __init__(self, photo: np.ndarray, maps: AttentionMaps, heads: list[int]):
        self.maps, self.heads = maps, heads
        self.canvas = Canvas(photo, maps.size, maps.stride, maps.image_size)
        tokens = {"foveal": foveal_weights, "peripheral": peripheral_weights, "mixed": mixed_weights}
        self.percent = {name: 100 * weights(maps)[heads] for name, weights in tokens.items()}
        self.percent["all tokens"] = self.percent["mixed"]
        self.scale = logarithmic(self.percent["mixed"])
        self.signed = symmetric(maps.positional[heads])

    def photograph(self, axes: Axes) -> None:
        maps = self.maps
        self.canvas.photograph(axes)
        self.canvas.mark(axes, maps.query, maps.window)
        around = f", {maps.window}{TIMES}{maps.window} window" if maps.window else ""
        axes.set_title(f"query ({maps.query[0]}, {maps.query[1]}){around}", fontsize=LABEL)
        rows, columns = maps.size
        axes.set_xlabel(
            f"stage {maps.stage + 1}, block {maps.block + 1}\n{rows}{TIMES}{columns} tokens", fontsize=LABEL
        )
        axes.set_anchor("N")

    def row(self, line: Sequence[Axes], name: str) -> None:
        """Draw the maps of this name, one for each head."""
        for at, (axes, head) in enumerate(zip(line, self.heads, strict=True)):
            if name == "positional":
                self.positional(axes, self.maps.positional[head])
            elif name == "foveal":
                self.foveal(axes, self.percent[name][at])
            else:
                self.canvas.heat(axes, self.percent[name][at], self.scale)
                self.canvas.mark(axes, self.maps.query, self.maps.window)
            if name in ("foveal", "peripheral"):
                axes.set_xlabel(f"{percent(self.percent[name][at].sum())} in all", fontsize=LABEL - 1, labelpad=2)
        enlarged = "\n(enlarged)" if name in ("foveal", "positional") else ""
        line[0].set_ylabel(name + enlarged, fontsize=LABEL)

    def foveal(self, axes: Axes, cells: np.ndarray) -> None:
        """Show the weights of the window, enlarged."""
        inside = np.where(self._window_mask(), cells, np.nan)
        self.canvas.heat(axes, np.maximum(inside, self.scale.vmin), self.scale)
        for row, column in np.argwhere(self._window_mask()).tolist():
            value = cells[row, column]
            self._number(axes, (row, column), f"{value:.0f}" if value >= 9.95 else f"{value:.1f}", self.scale, value)
        self._enlarge(axes)

    def positional(self, axes: Axes, values: np.ndarray) -> None:
        """Show what is added to the window's weights."""
        half = self.maps.window // 2
        for row, column in np.argwhere(self._window_mask()).tolist():
            value = values[row - self.maps.query[0] + half, column - self.maps.query[1] + half]
            left, top, right, bottom = self.canvas.box((row, column), 1)
            axes.imshow([[value]], cmap=SIGNED, norm=self.signed, extent=(left, right, bottom, top))
            self._number(axes, (row, column), f"{value:+.2f}", self.signed, value)
        bare(axes)
        self._enlarge(axes)

    def _window_mask(self) -> np.ndarray:
        """(H, W) bool: the tokens of the window."""
        inside, half = np.zeros(self.maps.size, bool), self.maps.window // 2
        row, column = self.maps.query
        inside[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = True
        return inside

    def _number(self, axes: Axes, token: tuple[int, int], text: str, norm: Any, value: float) -> None:
        if self.maps.window <= _MOST_NUMBERS:
            left, top, right, bottom = self.canvas.box(token, 1)
            number(axes, ((left + right) / 2, (top + bottom) / 2), text, norm, value)

    def _enlarge(self, axes: Axes) -> None:
        """Show the window and half a token around it, in the proportions of the image."""
        left, top, right, bottom = box = self.canvas.box(self.maps.query, self.maps.window)
        height = max(bottom - top, (right - left) * self.canvas.aspect) + self.maps.stride
        x, y, width = (left + right) / 2, (top + bottom) / 2, height / self.canvas.aspect
        axes.set_xlim(x - width / 2, x + width / 2)
        axes.set_ylim(y + height / 2, y - height / 2)
        frame(axes, box)
