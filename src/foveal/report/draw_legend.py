"""Class colours, and legends below or beside a picture that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from foveal.report.draw import GREY, INK, PAPER, load_font, truncated

MOST = 256
NEUTRAL = (128, 128, 128)
"""Grey, for pixels without a class of interest: the class called "background", and ignored pixels in legends."""
BACKGROUND = "background"
# Orange, sky blue, bluish green, yellow, blue, vermilion and reddish purple of Okabe and Ito (2008).
KNOWN = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
)
LEVELS = 18  # candidate values of each colour channel
LIGHTNESS = 0.48, 0.88  # range in OKLab; darker colours look black on a dark photograph
CHROMA = 0.10, 0.24  # range in OKLab; greys belong to the background, and neon hides the photograph

# From linear sRGB to cone responses, and from their cube roots to OKLab (Ottosson 2020).
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# From linear sRGB to what viewers without red or green cones see (Machado, Oliveira and Fernandes 2009, table 1).
EYES = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
)

WIDEST = 16  # maximum width of a legend's column, in font heights; longer names are truncated


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """Return the colour of each class, (C, 3) uint8. A label has the same colour in all pictures; a background is
    grey."""
    colours = palette()[np.arange(len(classes)) % MOST].copy()
    for label, name in enumerate(classes):
        if name == BACKGROUND:
            colours[label] = NEUTRAL
    return colours


@lru_cache(maxsize=1)
def palette() -> np.ndarray:
    """Return 256 colours, (256, 3) uint8, read-only. Early colours differ most, so frequent classes should come first.

    The first seven are Okabe and Ito's, which are distinguishable with colour blindness. Each further one is the
    candidate farthest from its nearest predecessor and from grey. Distances are measured in OKLab, averaged over normal
    vision, red blindness and green blindness.
    """
    candidates = _candidates()
    seen, before = _seen(candidates), _seen(np.concatenate([[NEUTRAL], KNOWN]))
    nearest = np.linalg.norm(seen[:, None] - before, axis=2).min(1)
    chosen = []
    for _ in range(MOST - len(KNOWN)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[chosen[-1]], axis=1))
    colours = np.concatenate([KNOWN, candidates[chosen]]).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def _candidates() -> np.ndarray:
    """Return sRGB colours, (N, 3), that are neither very dark nor very light, neither grey nor neon."""
    levels = np.linspace(0, 255, LEVELS).round()
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = _oklab(_linear(colours)).T
    chroma = np.hypot(a, b)
    return colours[
        (lightness > LIGHTNESS[0]) & (lightness < LIGHTNESS[1]) & (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    ]


def _seen(colours: np.ndarray) -> np.ndarray:
    """Map colours (N, 3) to points (N, 9): OKLab coordinates for each kind of vision in ``EYES``."""
    linear = _linear(colours)
    return np.concatenate([_oklab((linear @ eyes.T).clip(0, 1)) for eyes in EYES], axis=1)


def _linear(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB from 0 to 255 to linear light from 0 to 1."""
    codes = colours / 255
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def _oklab(linear: np.ndarray) -> np.ndarray:
    return np.cbrt(linear @ CONES.T) @ OKLAB.T


@dataclass(frozen=True)
class Entry:
    """One line of a legend: a colour, (3,) uint8, its name, and its share of the pixels from 0 to 1, or None."""

    colour: np.ndarray
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Layout:
    """Measures of a legend in pixels; all follow from its font size."""

    font_size: int
    column: int
    """Width of an entry with the gap after it."""

    @classmethod
    def of(cls, entries: Sequence[Entry], font_size: int) -> Layout:
        """Make columns as wide as the longest entry needs, up to a limit."""
        font = load_font(font_size)
        names = max(font.getlength(entry.name) for entry in entries)
        shares = max(font.getlength(percent(entry.share)) for entry in entries)
        room = round(min(names + shares, WIDEST * font_size)) + 1
        return cls(font_size, room + 4 * font_size)

    @property
    def line(self) -> int:
        return round(1.5 * self.font_size)

    @property
    def edge(self) -> int:
        return self.font_size


def percent(share: float | None) -> str:
    """Format a share as a percentage; a small positive share does not become zero."""
    if share is None:
        return ""
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def with_legend(picture: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8, with its legend: beside it if it is taller than wide, else below.

    Without entries the picture is returned as it is.
    """
    if not entries:
        return picture
    height, width = picture.shape[:2]
    layout = Layout.of(entries, max(14, round((height * width) ** 0.5 / 42)))
    if height > width:
        rows = max(1, (height - layout.edge) // layout.line)
        return _join(picture, _columns(entries, layout, rows), beside=True)
    return with_legend_below(picture, entries, layout)


def with_legend_below(picture: np.ndarray, entries: Sequence[Entry], layout: Layout) -> np.ndarray:
    """Return the picture above its legend, which has as many columns as fit."""
    columns = max(1, (picture.shape[1] - layout.edge) // layout.column)
    return _join(picture, _columns(entries, layout, -(-len(entries) // columns)), beside=False)


def _columns(entries: Sequence[Entry], layout: Layout, rows: int) -> Image.Image:
    """Draw the entries column by column, ``rows`` in each."""
    columns = -(-len(entries) // rows)
    lines = min(rows, len(entries))
    sheet = Image.new("RGB", (layout.edge + columns * layout.column, layout.edge + lines * layout.line), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, entry in enumerate(entries):
        left = layout.edge + number // rows * layout.column
        _draw_entry(pen, entry, left, layout.edge // 2 + number % rows * layout.line, layout)
    return sheet


def _draw_entry(pen: ImageDraw.ImageDraw, entry: Entry, left: int, top: int, layout: Layout) -> None:
    """Draw swatch, name and share; the share is aligned to the right end of the column."""
    font, size = load_font(layout.font_size), layout.font_size
    middle = top + layout.line / 2
    swatch = top + (layout.line - size) // 2
    pen.rectangle((left, swatch, left + size, swatch + size), fill=tuple(entry.colour.tolist()), outline=INK)
    right = left + layout.column - 3 * size // 2
    share = percent(entry.share)
    begin = left + 3 * size // 2
    name = truncated(entry.name, font, right - begin - font.getlength(share) - size // 2)
    pen.text((begin, middle), name, fill=INK, font=font, anchor="lm")
    pen.text((right, middle), share, fill=GREY, font=font, anchor="rm")


def _join(picture: np.ndarray, legend: Image.Image, beside: bool) -> np.ndarray:
    height, width = picture.shape[:2]
    size = (
        (width + legend.width, max(height, legend.height))
        if beside
        else (max(width, legend.width), height + legend.height)
    )
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(Image.fromarray(picture), (0, 0))
    sheet.paste(legend, (width, 0) if beside else (0, height))
    return np.asarray(sheet)
