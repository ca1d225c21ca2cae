"""Sheets of pictures: strips of pictures of one image, under their captions, in columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from foveal.report.picture import GREY, INK, PAPER, letters

GAP, CAPTION = 14, 16  # pixels between the pictures of a sheet; of its letters


def draw_strip(title: str, pictures: Sequence[tuple[str, np.ndarray]], side: int) -> Image.Image:
    """Pictures of one size, (H, W, 3) uint8, side by side, each under its caption, on a strip as wide as if each had
    ``side`` pixels."""
    height, width = pictures[0][1].shape[:2]
    head = 2 * CAPTION + GAP
    strip = Image.new("RGB", (len(pictures) * (side + GAP) - GAP, head + height), PAPER)
    pen, font = ImageDraw.Draw(strip), letters(CAPTION)
    pen.text((0, CAPTION // 2), title, fill=INK, font=font, anchor="lm")
    for number, (caption, picture) in enumerate(pictures):
        left = number * (width + GAP)
        pen.text((left, head - CAPTION // 2 - 3), caption, fill=GREY, font=font, anchor="lm")
        strip.paste(Image.fromarray(picture), (left, head))
    return strip


def draw_sheet(strips: Sequence[Image.Image], columns: int) -> np.ndarray:
    """Strips of one width in rows of so many at most: (H, W, 3) uint8."""
    columns = min(columns, len(strips))
    rows = [strips[start : start + columns] for start in range(0, len(strips), columns)]
    wide, tall = strips[0].width, [max(strip.height for strip in row) for row in rows]
    sheet = Image.new("RGB", (columns * (wide + 2 * GAP), sum(tall) + 2 * GAP * len(rows)), PAPER)
    top = GAP
    for row, height in zip(rows, tall, strict=True):
        for column, strip in enumerate(row):
            sheet.paste(strip, (GAP + column * (wide + 2 * GAP), top))
        top += height + 2 * GAP
    return np.asarray(sheet)
