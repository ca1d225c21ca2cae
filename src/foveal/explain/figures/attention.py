"""Pictures of foveal and peripheral attention: heat maps on the photograph, and a figure of one query.

Knows arrays and no network. Both paths of a head share one colour scale: their similarities compete in the same
softmax, so a colour must mean the same value in both.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from foveal.explain.attention import AttentionMaps
from foveal.plotting import matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAT = "inferno"  # perceptually uniform: equal steps of similarity look like equal steps of lightness
RANGE = (1, 99)  # percentiles of the darkest and lightest colour: an outlier must not dim all other keys
HEAT_OPACITY = 0.72  # leaves enough of the photograph for orientation
MARK = (92, 225, 230)  # cyan, the hue that the heat map lacks
PAPER, INK, MUTED = "#15161a", "#f2efe9", "#a9a59d"


@dataclass(frozen=True)
class HeadPanel:
    """Pictures of one head, (H, W, 3) uint8 in the photograph's size, and the window's share of its attention."""

    foveal: np.ndarray
    peripheral: np.ndarray
    foveal_share: float


def check_drawing() -> None:
    """Raise FovealError, before the work that ends in a picture, if matplotlib is not installed."""
    matplotlib("cm")


def overlay(photo: np.ndarray, heat: np.ndarray, low: float, high: float) -> np.ndarray:
    """Lay a heat map over the grey photograph. Every value keeps its own cell; nothing is smoothed.

    Args:
        photo: (H, W, 3) uint8.
        heat: (h, w) floating point, in any unit.
        low: value of the darkest colour.
        high: value of the lightest colour.

    Returns:
        (H, W, 3) uint8.
    """
    cells = Image.fromarray(_colours((heat - low) / max(high - low, 1e-12)))
    height, width = photo.shape[:2]
    coloured = np.asarray(cells.resize((width, height), Image.Resampling.NEAREST), dtype=np.float32)
    grey = np.asarray(Image.fromarray(photo).convert("L"), dtype=np.float32)[..., None]
    return (HEAT_OPACITY * coloured + (1 - HEAT_OPACITY) * grey).round().astype(np.uint8)


def colour_scale() -> np.ndarray:
    """Return the colours of the heat map from low to high, (16, 256, 3) uint8."""
    ramp = np.broadcast_to(np.linspace(0, 1, 256), (16, 256))
    return _colours(ramp)


def mark_query(picture: np.ndarray, maps: AttentionMaps) -> np.ndarray:
    """Draw the query as a dot and its window as a frame; (H, W, 3) uint8 in and out."""
    height, width = picture.shape[:2]
    rows, columns = maps.foveal.shape[1:]
    cell = np.array([width / columns, height / rows])
    centre = (np.array([maps.query[1], maps.query[0]]) + 0.5) * cell
    reach = maps.window_weights.shape[1] / 2 * cell
    stroke = max(1, round(min(height, width) / 160))
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    pen.rectangle([*(centre - reach), *(centre + reach)], outline=(0, 0, 0), width=2 * stroke)
    pen.rectangle([*(centre - reach), *(centre + reach)], outline=MARK, width=stroke)
    pen.ellipse([*(centre - 2 * stroke), *(centre + 2 * stroke)], fill=MARK, outline=(0, 0, 0))
    return np.asarray(image)


def head_panels(photo: np.ndarray, maps: AttentionMaps) -> list[HeadPanel]:
    """Return both pictures of every head, on the head's own colour scale, with the query marked.

    Args:
        photo: (H, W, 3) uint8, the image of the maps, at any resolution.
        maps: the result of ``foveal_peripheral_attention``.
    """
    panels = []
    for foveal, peripheral, share in zip(maps.foveal, maps.peripheral, maps.foveal_share, strict=True):
        ranges = np.percentile(foveal, RANGE), np.percentile(peripheral, RANGE)
        low, high = np.min(ranges), np.max(ranges)
        fine, pooled = (mark_query(overlay(photo, heat, low, high), maps) for heat in (foveal, peripheral))
        panels.append(HeadPanel(fine, pooled, float(share)))
    return panels


def attention_figure(photo: np.ndarray, maps: AttentionMaps, title: str, note: str, heads: int = 4) -> bytes:
    """Return a PNG: the photograph with its query, then the foveal and peripheral similarity of each head.

    The figure has a dark background with transparent round corners, so it suits light and dark pages.

    Args:
        photo: (H, W, 3) uint8.
        maps: the attention of that photograph.
        title: one line above.
        note: one or two lines below, which say what was done with which network.
        heads: maximum number of heads, counted from the first.

    Raises:
        FovealError: matplotlib is not installed.
    """
    panels = head_panels(photo, maps)[:heads]
    plate = _Plate(len(panels), photo.shape[1] / photo.shape[0])
    figure = plate.figure()
    plate.title(figure, title, note)
    plate.photograph(figure, mark_query(photo, maps), maps)
    for column, panel in enumerate(panels):
        plate.head(figure, column, panel)
    plate.scale(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, transparent=True)
    return buffer.getvalue()


def encode(picture: np.ndarray, kind: str = "PNG") -> bytes:
    """Return (H, W, 3) uint8 as the bytes of a PNG or, much smaller for photographs, a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=kind, optimize=True, quality=88)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Plate:
    """Layout of the figure, in inches from its upper left corner."""

    columns: int
    aspect: float
    panel: float = 1.5
    gap: float = 0.12
    edge: float = 0.32
    top: float = 1.22
    bottom: float = 0.82

    @property
    def photo_height(self) -> float:
        return 2 * self.panel + self.gap

    @property
    def heads_left(self) -> float:
        return self.edge + self.photo_height * self.aspect + 0.52

    @property
    def size(self) -> tuple[float, float]:
        width = self.heads_left + self.columns * (self.panel * self.aspect + self.gap) - self.gap + self.edge
        return width, self.top + self.photo_height + self.bottom

    def figure(self) -> Figure:
        """Return an empty figure with a dark background and round corners."""
        patches = matplotlib("patches")
        figure = matplotlib("figure").Figure(figsize=self.size)
        width, height = self.size
        ground = patches.FancyBboxPatch(
            (0.16, 0.16), width - 0.32, height - 0.32, boxstyle="round,pad=0.14", facecolor=PAPER, linewidth=0
        )
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        axes.add_patch(ground)
        return figure

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        whole_width, whole_height = self.size
        box = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
        axes = figure.add_axes(box, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def text(self, figure: Figure, left: float, top: float, text: str, size: float, **style: Any) -> None:
        width, height = self.size
        figure.text(left / width, 1 - top / height, text, fontsize=size, **({"color": INK, "va": "baseline"} | style))

    def title(self, figure: Figure, title: str, note: str) -> None:
        self.text(figure, self.edge, 0.56, title, 17, weight="bold")
        self.text(
            figure, self.edge, self.size[1] - self.bottom + 0.2, note, 9.5, color=MUTED, va="top", linespacing=1.5
        )

    def photograph(self, figure: Figure, photo: np.ndarray, maps: AttentionMaps) -> None:
        axes = self.axes(figure, self.edge, self.top, self.photo_height * self.aspect, self.photo_height)
        axes.imshow(photo, aspect="auto")
        side = maps.window_weights.shape[1]
        self.text(figure, self.edge, self.top - 0.16, f"One query and its {side} x {side} window", 12)

    def head(self, figure: Figure, column: int, panel: HeadPanel) -> None:
        width = self.panel * self.aspect
        left = self.heads_left + column * (width + self.gap)
        self.text(figure, left, self.top - 0.16, f"Head {column + 1}", 12)
        rows = (("foveal", panel.foveal), ("peripheral", panel.peripheral))
        for row, (name, picture) in enumerate(rows):
            top = self.top + row * (self.panel + self.gap)
            self.axes(figure, left, top, width, self.panel).imshow(picture, aspect="auto")
            if column == 0:
                middle = top + self.panel / 2
                self.text(figure, left - 0.12, middle, name, 12, rotation=90, ha="right", va="center")

    def scale(self, figure: Figure) -> None:
        """Draw the colour scale: relative, since every head has its own."""
        right = self.size[0] - self.edge
        bar, width, middle = right - 1.91, 1.3, 0.52
        axes = self.axes(figure, bar, middle - 0.065, width, 0.13)
        axes.imshow(colour_scale(), aspect="auto")
        for left, text in ((bar - 0.08, "dissimilar"), (right, "similar")):
            self.text(figure, left, middle, text, 11, color=MUTED, ha="right", va="center_baseline")


def _colours(shares: np.ndarray) -> np.ndarray:
    """Map values, clipped to 0 to 1, to colours of the heat map: (..., 3) uint8."""
    colours = matplotlib("cm").ScalarMappable(cmap=HEAT).get_cmap()
    return (colours(np.clip(shares, 0.0, 1.0))[..., :3] * 255).round().astype(np.uint8)
