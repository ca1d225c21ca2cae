"""A contact sheet: many small pictures with a few words below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveal.report.draw import GAP, GREY, INK, PAPER, load_font, resized, truncated

FONT, HEAD = 14, 18  # font size of the words and of the title
LINE = 18  # pixels from one line to the next


@dataclass(frozen=True)
class Tile:
    """A picture, (H, W, 3) uint8, and the lines below it, of which the first are in dark ink."""

    picture: np.ndarray
    lines: Sequence[str]
    dark: int = 1


def draw_tiles(tiles: Sequence[Tile], title: str, columns: int = 6, side: int = 168) -> np.ndarray:
    """Draw tiles in rows below a title: (H, W, 3) uint8.

    Args:
        tiles: at least one.
        title: one line.
        columns: tiles per row.
        side: longer side of each picture, in pixels.
    """
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    tall = side + GAP // 2 + LINE * max(len(tile.lines) for tile in tiles) + GAP
    head, font = 2 * HEAD + GAP, load_font(HEAD)
    wide = max(columns * (side + GAP) + GAP, round(font.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (wide, head + rows * tall), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP + HEAD // 2), title, fill=INK, font=font, anchor="lm")
    small = load_font(FONT)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, bottom = GAP + column * (side + GAP), head + row * tall + side
        picture = resized(tile.picture, side)
        sheet.paste(Image.fromarray(picture), (left, bottom - picture.shape[0]))
        for place, line in enumerate(tile.lines):
            at = left, bottom + GAP // 2 + LINE * place + LINE // 2
            ink = INK if place < tile.dark else GREY
            pen.text(at, truncated(line, small, side), fill=ink, font=small, anchor="lm")
    return np.asarray(sheet)
