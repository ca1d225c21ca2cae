"""The figure of class activation maps: a photograph, and the evidence for some scores on it, for print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.explain.figures.light import AMOUNTS, LABEL, bare, frame, titles
from foveal.plotting import matplotlib, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 2.0  # inches
_MOST_OPAQUE = 0.8  # of the colour over the photograph, where the evidence is greatest


@dataclass(frozen=True)
class Evidence:
    """What one panel shows.

    Attributes:
        heat: (H, W) at least 0, at each pixel of the photograph.
        name: of what the evidence is for.
        box: (x1, y1, x2, y2) in pixels of the photograph; None without one.
    """

    heat: np.ndarray
    name: str
    box: tuple[float, float, float, float] | None = None


def activation_figure(photo: np.ndarray, shown: Sequence[Evidence], title: str, caption: str) -> Figure:
    """Draw the photograph, then each map on it; colours are shares of a map's own maximum.

    Args:
        photo: (H, W, 3) uint8.
        shown: at least one.
        title: a few words.
        caption: what was computed, of which network.

    Raises:
        FovealError: nothing to show, or matplotlib is not installed.
    """
    if not shown:
        raise FovealError("There is nothing to draw: pass the evidence for at least one score.")
    height, width = photo.shape[:2]
    figure = new_figure(max((len(shown) + 1) * (_PANEL + 0.06) + 0.7, 5.0), _PANEL * height / width + 1.3)
    figure.set_layout_engine("compressed")
    axes = figure.subplots(1, len(shown) + 1)
    _panel(axes[0], photo, "photograph")
    for panel, evidence in zip(axes[1:], shown, strict=True):
        _panel(panel, overlay(photo, evidence.heat), evidence.name)
        if evidence.box is not None:
            left, top, right, bottom = evidence.box
            frame(panel, (left, top, right, bottom))
    scale = matplotlib("cm").ScalarMappable(matplotlib("colors").Normalize(0, 100), AMOUNTS)
    bar = figure.colorbar(scale, ax=list(axes[1:]), pad=0.012, aspect=14, fraction=0.05)
    bar.set_label("evidence, % of the panel's maximum", fontsize=LABEL)
    bar.ax.tick_params(labelsize=LABEL - 1, width=0.5, length=2.5)
    bar.outline.set(linewidth=0.5)
    titles(figure, title, caption)
    return figure


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour the photograph where there is evidence, the more opaque the more there is: (H, W, 3) uint8 in and out.

    Without any evidence it stays grey.
    """
    share = heat / max(float(heat.max()), 1e-30)
    grey = np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float64)[..., None] / 255
    colours = matplotlib("cm").ScalarMappable(cmap=AMOUNTS).get_cmap()(share)[..., :3]
    opacity = _MOST_OPAQUE * np.sqrt(share)[..., None]
    return (255 * (opacity * colours + (1 - opacity) * grey)).round().astype(np.uint8)


def _panel(axes: Axes, pixels: np.ndarray, name: str) -> None:
    axes.imshow(pixels, extent=(0, pixels.shape[1], pixels.shape[0], 0), interpolation="nearest")
    axes.set_title(name, fontsize=LABEL, parse_math=False)  # of a class, which may hold a dollar sign
    bare(axes)
