"""What the light figures of attention share: maps on a pale photograph, colour bars with units, a caption.

Colours: viridis for amounts, since its lightness rises evenly, which any colour vision and a grey print keep; PuOr for
signed values, whose halves differ for colour-blind readers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from foveal.explain.token_grid import token_edges
from foveal.plotting import MUTED, matplotlib, plain_logarithms
from foveal.types import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

AMOUNTS, SIGNED = "viridis", "PuOr"
LABEL = 8.5  # points
_OPACITY = 0.85  # of a map over the photograph
_DECADES = 3  # of a logarithmic colour scale, at most
_PALE = 0.3, 1.0  # the greys of the photograph below a map: shapes stay, contrast does not compete


@dataclass(frozen=True)
class Canvas:
    """A photograph and the token map on it, for one figure.

    Attributes:
        photo: (H, W, 3) uint8, at any resolution.
        size: (rows, columns) of the token map.
        stride: pixels of the image from one token to the next.
        image_size: (height, width) that the network saw: the coordinates of all axes.
    """

    photo: np.ndarray
    size: Size
    stride: int
    image_size: Size

    @property
    def aspect(self) -> float:
        """Height over width."""
        return self.image_size[0] / self.image_size[1]

    def box(self, query: tuple[int, int], window: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of a window of tokens around a query, cut by the image."""
        (top, bottom), (left, right) = (
            token_edges(n, self.stride, pixels)[[max(at - window // 2, 0), min(at + window // 2 + 1, n)]]
            for at, n, pixels in zip(query, self.size, self.image_size, strict=True)
        )
        return left, top, right, bottom

    def photograph(self, axes: Axes) -> None:
        """Show the photograph."""
        self._show(axes, self.photo)

    def heat(self, axes: Axes, cells: np.ndarray, norm: Any) -> None:
        """Colour each token's own pixels on a pale photograph; tokens with NaN show the photograph alone.

        Args:
            cells: (rows, columns), a number for each token.
            norm: matplotlib's, from numbers to colours.
        """
        self._show(axes, self.painted(cells, norm))

    def painted(self, cells: np.ndarray, norm: Any) -> np.ndarray:
        """Return what ``heat`` shows, (height, width, 3) uint8 in the size that the network saw."""
        ground = self._ground()
        rows, columns = (
            np.repeat(np.arange(n), np.diff(token_edges(n, self.stride, pixels)))
            for n, pixels in zip(cells.shape, self.image_size, strict=True)
        )
        values = cells[rows[:, None], columns]
        colours = matplotlib("cm").ScalarMappable(norm, AMOUNTS).to_rgba(np.nan_to_num(values, nan=1.0))[..., :3]
        mixed = np.where(np.isnan(values)[..., None], ground, _OPACITY * colours + (1 - _OPACITY) * ground)
        painted: np.ndarray = (255 * mixed).round().astype(np.uint8)
        return painted

    def mark(self, axes: Axes, query: tuple[int, int], window: int) -> None:
        """Draw the query at its token's centre, and the frame of its window."""
        if window > 1:
            frame(axes, self.box(query, window))
        row, column = query
        at = self.stride * column + 0.5, self.stride * row + 0.5
        axes.plot(*at, "o", markersize=3.6, color="white", markeredgecolor="black", markeredgewidth=0.8, clip_on=False)

    def _ground(self) -> np.ndarray:
        """(height, width, 1): the photograph in light greys, 0 to 1, at the network's size."""
        grey = Image.fromarray(self.photo).convert("L").resize(self.image_size[::-1], Image.Resampling.BICUBIC)
        low, high = _PALE
        return (low + (high - low) * np.asarray(grey, dtype=np.float64) / 255)[..., None]

    def _show(self, axes: Axes, pixels: np.ndarray) -> None:
        height, width = self.image_size
        axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
        bare(axes)


def frame(axes: Axes, box: tuple[float, float, float, float]) -> None:
    """Draw the frame (left, top, right, bottom) in white with a dark edge: visible on any photograph and colour."""
    left, top, right, bottom = box
    for colour, width in (("black", 2.2), ("white", 1.1)):
        place = (left, top), right - left, bottom - top
        axes.add_patch(matplotlib("patches").Rectangle(*place, fill=False, edgecolor=colour, linewidth=width))


def bare(axes: Axes) -> None:
    """Remove ticks, and leave a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=MUTED)


def number(axes: Axes, at: tuple[float, float], text: str, norm: Any, value: float) -> None:
    """Write a number on its cell, dark or light, whichever is read better."""
    red, green, blue, _ = matplotlib("cm").ScalarMappable(norm, _map_of(norm)).to_rgba(value)
    light = 0.3 * red + 0.59 * green + 0.11 * blue
    axes.text(*at, text, ha="center", va="center", fontsize=6.5, color="black" if light > 0.45 else "white")


def symmetric(values: np.ndarray) -> Any:
    """Return a linear scale around 0 that holds all values."""
    most = float(abs(values).max(initial=1e-12))
    return matplotlib("colors").Normalize(-most, most)


def logarithmic(values: np.ndarray) -> Any:
    """Return a logarithmic scale up to the largest value, over three decades at most."""
    high = float(values.max())
    low = max(float(np.percentile(values, 2)), high / 10**_DECADES)
    return matplotlib("colors").LogNorm(min(low, high / 2), high)


def colour_bar(
    figure: Figure | SubFigure, axes: Iterable[Axes], norm: Any, label: str, *, on_photo: bool, **options: Any
) -> None:
    """Draw a colour bar beside ``axes``; one for maps on a photograph has their pale ground."""
    bar: Any = figure.colorbar(
        matplotlib("cm").ScalarMappable(norm, _map_of(norm)),
        ax=list(axes),
        **{"pad": 0.012, "aspect": 14, "fraction": 0.05} | options,
    )
    if on_photo:
        bar.ax.set_facecolor((sum(_PALE) / 2,) * 3)
        bar.solids.set_alpha(_OPACITY)
    if isinstance(norm, matplotlib("colors").LogNorm):
        plain_logarithms(bar.ax.yaxis)
    bar.set_label(label, fontsize=LABEL)
    bar.ax.tick_params(labelsize=LABEL - 1, width=0.5, length=2.5)
    bar.outline.set(linewidth=0.5, edgecolor=MUTED)


def titles(figure: Figure, title: str, caption: str) -> None:
    """Write the title above and the caption below, wrapped to the figure's width. A name may hold a dollar sign."""
    width = figure.get_figwidth()
    place = dict(x=0.06 / width, ha="left", parse_math=False)
    figure.suptitle(title, fontsize=11, weight="bold", **place)
    lines = textwrap.wrap(caption, int(width * 16), break_on_hyphens=False)
    figure.supxlabel("\n".join(lines), fontsize=LABEL - 0.5, color=MUTED, linespacing=1.35, **place)


def percent(share: float) -> str:
    """Return a percentage for people: "37 %", "2.1 %", "< 0.1 %"."""
    if 0 < share < 0.05:
        return "< 0.1 %"
    return f"{share:.0f} %" if share >= 9.95 else f"{share:.1f} %"


def _map_of(norm: Any) -> str:
    return SIGNED if norm.vmin < 0 else AMOUNTS
