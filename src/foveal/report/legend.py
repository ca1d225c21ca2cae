"""Legends: which colour is which class, below a picture or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveal.report.picture import GREY, INK, PAPER, fitting, letters

WIDEST = 16  # of a column, in heights of its letters: longer names are cut


@dataclass(frozen=True)
class Entry:
    """A colour, (3,) uint8, the name of what it stands for, and the share of the pixels that have it, from 0 to 1; None
    where there is none to tell."""

    colour: np.ndarray
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Layout:
    """Measures of a legend, in pixels: all follow from the height of its letters."""

    letters: int
    column: int
    """Width of an entry with the gap behind it."""

    @classmethod
    def of(cls, entries: Sequence[Entry], letters_height: int) -> Layout:
        """The columns are as wide as the longest entry needs, up to a limit."""
        font = letters(letters_height)
        names = max(font.getlength(entry.name) for entry in entries)
        shares = max(font.getlength(percent(entry.share)) for entry in entries)
        room = round(min(names + shares, WIDEST * letters_height)) + 1
        return cls(letters_height, room + 4 * letters_height)

    @property
    def line(self) -> int:
        return round(1.5 * self.letters)

    @property
    def edge(self) -> int:
        return self.letters


def percent(share: float | None) -> str:
    """A share as a person reads it: one that is not zero does not look like it."""
    if share is None:
        return ""
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def with_legend(picture: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """The picture (H, W, 3) uint8 with its legend, beside one that is taller than wide, else below; without entries
    the picture itself."""
    if not entries:
        return picture
    height, width = picture.shape[:2]
    layout = Layout.of(entries, letters_height(height, width))
    if height > width:
        rows = max(1, (height - layout.edge) // layout.line)
        return _join(picture, _columns(entries, layout, rows), beside=True)
    return with_legend_below(picture, entries, layout)


def with_legend_below(picture: np.ndarray, entries: Sequence[Entry], layout: Layout) -> np.ndarray:
    """The picture above its legend, which has as many columns as there is room for."""
    columns = max(1, (picture.shape[1] - layout.edge) // layout.column)
    return _join(picture, _columns(entries, layout, -(-len(entries) // columns)), beside=False)


def letters_height(height: int, width: int) -> int:
    """Of the letters that suit a picture, in pixels."""
    return max(14, round((height * width) ** 0.5 / 42))


def _columns(entries: Sequence[Entry], layout: Layout, rows: int) -> Image.Image:
    """The entries column by column, so many in each."""
    columns = -(-len(entries) // rows)
    lines = min(rows, len(entries))
    sheet = Image.new("RGB", (layout.edge + columns * layout.column, layout.edge + lines * layout.line), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, entry in enumerate(entries):
        left = layout.edge + number // rows * layout.column
        _draw_entry(pen, entry, left, layout.edge // 2 + number % rows * layout.line, layout)
    return sheet


def _draw_entry(pen: ImageDraw.ImageDraw, entry: Entry, left: int, top: int, layout: Layout) -> None:
    """Swatch, name, share; the share at the right end of the column."""
    font, size = letters(layout.letters), layout.letters
    middle = top + layout.line / 2
    swatch = top + (layout.line - size) // 2
    pen.rectangle((left, swatch, left + size, swatch + size), fill=tuple(entry.colour.tolist()), outline=INK)
    right = left + layout.column - 3 * size // 2
    share = percent(entry.share)
    begin = left + 3 * size // 2
    name = fitting(entry.name, font, right - begin - font.getlength(share) - size // 2)
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
