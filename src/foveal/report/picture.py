"""Pictures made with Pillow: an image in the size that drawing on it needs, letters, and the file."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from foveal.errors import FovealError
from foveal.files import atomic_file

DARK = (16, 17, 20)
PAPER, INK, GREY = (252, 251, 248), (29, 28, 26), (93, 89, 82)  # of sheets: their ground, and two inks
SMALLEST = 640  # pixels of the longer side from which on an image keeps its size: letters need room


def resized(image: np.ndarray, side: int | None = None) -> np.ndarray:
    """The image in the size that it is drawn on: (H', W', 3) uint8, its own to write to, of the same proportions.

    Args:
        image: (H, W, 3) uint8.
        side: the longer side of the picture; None keeps the image's, and enlarges small ones to 640 at least.
    """
    longest = max(image.shape[:2])
    scale = (side or max(longest, SMALLEST)) / longest
    if scale == 1:
        return image.copy()
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    way = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((width, height), way))


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 in the format of the path's ending, whole or not at all.

    Raises:
        FovealError: no ending that Pillow writes, or the file cannot be written; what was there before is untouched.
    """
    form = Image.registered_extensions().get(path.suffix.lower())
    if form not in Image.SAVE:
        raise FovealError(f"{path} has no ending of a picture: name it .png or .jpg.")
    content = io.BytesIO()
    Image.fromarray(picture).save(content, form, quality=92)
    with atomic_file(path) as part:
        part.write_bytes(content.getvalue())


def fitting(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, cut where it would be wider than ``room`` pixels; where there is hardly any, dots remain."""
    if font.getlength(text) <= room:
        return text
    cuts = (f"{text[:length]}..." for length in range(len(text) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= room), "...")


@lru_cache(maxsize=32)
def letters(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow, ``size`` pixels high."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
