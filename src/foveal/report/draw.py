"""What all drawings on photographs share: image sizes, fonts, sheets of several pictures, and picture files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foveal.errors import FovealError
from foveal.files import atomic_file

DARK = (16, 17, 20)
PAPER, INK, GREY = (252, 251, 248), (29, 28, 26), (93, 89, 82)  # background and two inks of sheets
SMALLEST = 640  # longer side in pixels; smaller images are enlarged, because text needs room
GAP, CAPTION = 14, 16  # pixels between the pictures of a sheet; font size of its captions


def resized(image: np.ndarray, side: int | None = None) -> np.ndarray:
    """Return a copy of the image in the size to draw on: (H', W', 3) uint8, of the same proportions.

    Args:
        image: (H, W, 3) uint8.
        side: longer side of the result; None keeps the image's size, but enlarges small images to 640 pixels.
    """
    longest = max(image.shape[:2])
    scale = (side or max(longest, SMALLEST)) / longest
    if scale == 1:
        return image.copy()
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    way = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((width, height), way))


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 in the format of the path's suffix, atomically.

    Raises:
        FovealError: Pillow cannot write files with this suffix, or the file cannot be written; an existing file is
            unchanged.
    """
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise FovealError(f"{path} is not the name of a picture: end it with .png or .jpg.")
    content = io.BytesIO()
    Image.fromarray(picture).save(content, form, quality=92)
    with atomic_file(path) as part:
        part.write_bytes(content.getvalue())


def truncated(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, shortened with dots if it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    cuts = (f"{text[:length]}..." for length in range(len(text) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "...")


@lru_cache(maxsize=32)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with Pillow, ``size`` pixels high."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def draw_strip(title: str, pictures: Sequence[tuple[str, np.ndarray]], side: int) -> Image.Image:
    """Draw pairs (caption, picture) of one image side by side below a title.

    Args:
        title: name of the image.
        pictures: captions with pictures of one size, (H, W, 3) uint8.
        side: width reserved for each picture, in pixels, so that strips of different images are equally wide.
    """
    height, width = pictures[0][1].shape[:2]
    head = 2 * CAPTION + GAP
    strip = Image.new("RGB", (len(pictures) * (side + GAP) - GAP, head + height), PAPER)
    pen, font = ImageDraw.Draw(strip), load_font(CAPTION)
    pen.text((0, CAPTION // 2), title, fill=INK, font=font, anchor="lm")
    for number, (caption, picture) in enumerate(pictures):
        left = number * (width + GAP)
        room = width if number < len(pictures) - 1 else strip.width - left
        pen.text((left, head - CAPTION // 2 - 3), truncated(caption, font, room), fill=GREY, font=font, anchor="lm")
        strip.paste(Image.fromarray(picture), (left, head))
    return strip


def draw_sheet(strips: Sequence[Image.Image], columns: int) -> np.ndarray:
    """Arrange strips of equal width in rows of at most ``columns``: (H, W, 3) uint8."""
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
