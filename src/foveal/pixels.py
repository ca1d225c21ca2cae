"""How the pixels of an image file of any mode become eight bits per channel."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

LARGEST = 255
NARROW = 16  # of 256 levels: an image with fewer from its darkest to its brightest pixel is nearly one colour
_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose 32-bit mode "I" holds 16 bits; TIFF's holds anything
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF: bits per pixel, and what the numbers mean
_WHITE_IS_ZERO = 0
_SPREAD = "foveal_spread"  # in ``info`` of an image
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# What Pillow's parser raises on broken data.
_BROKEN_EXIF = (struct.error, SyntaxError, ValueError, TypeError, LookupError, OSError, EOFError, OverflowError)


class PixelError(ValueError):
    """Pixels whose meaning is unknown; the message continues a sentence that begins with the image's name."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an opened image as RGB with 8 bits per channel.

    Modes of up to 8 bits per channel are converted by Pillow, without alpha. Of 16 bits, or of the 12 of a TIFF, the
    upper 8 are kept. Numbers of 32 bits and signed ones have no range of their own: whole numbers from 0 to 255 are
    taken as they are, and fractions from 0 to 1 as shares of 255. A TIFF in which zero is white is inverted.

    Raises:
        PixelError: numbers of 32 bits are beyond that range, or Pillow cannot convert the mode or reads it wrongly.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_grey(image)
    elif image.mode == "LAB":
        return _from_lab(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PixelError(f"has pixels of the mode {image.mode}, which Pillow cannot convert: save it as RGB") from error


def spread(image: Image.Image) -> int | None:
    """Return how many levels of 255 are between the darkest and the brightest pixel of an image from ``to_rgb`` that
    had more than 8 bits per channel, None for others."""
    return image.info.get(_SPREAD)


def _to_grey(image: Image.Image) -> Image.Image:
    """Return an image of one number per pixel with more than 8 bits as grey with 8."""
    if image.format == "FITS":
        raise PixelError(
            "is a FITS file with more than 8 bits per pixel, whose bytes Pillow reads in the wrong order: save it as "
            "PNG or TIFF"
        )
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (None,))[0]
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS):
        levels = np.asarray(image) >> ((bits or 16) - 8)
    elif image.mode == "I":
        levels = _checked(
            image, LARGEST, f"signed numbers of {bits} bits" if bits == 16 else "whole numbers of 32 bits"
        )
    else:
        levels = np.rint(_checked(image, 1, "fractions of 32 bits") * LARGEST)
    levels = levels.astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts up to 8 bits
        levels = LARGEST - levels
    grey = Image.fromarray(levels)
    grey.info[_SPREAD] = int(levels.max()) - int(levels.min())
    return grey


def _checked(image: Image.Image, largest: int, kind: str) -> np.ndarray:
    """Return the numbers of an image whose mode does not say their range, all of them from 0 to ``largest``."""
    numbers = np.asarray(image)
    low, high = numbers.min(), numbers.max()
    if low >= 0 and high <= largest:
        return numbers
    raise PixelError(
        f"has {kind} from {low:g} to {high:g}, and which of them is white is only known from 0 to {largest}: save it "
        "with 8 bits per channel, or 16 without a sign"
    )


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only if converted in place
    return converted


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 if it has none. Unreadable EXIF data says nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN_EXIF:
        return 1


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror an image that was stored with this EXIF orientation, so that it is upright."""
    method = _TURNS.get(orientation)
    return image if method is None else image.transpose(method)
