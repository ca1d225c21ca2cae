"""How the pixels of an image file of any mode become eight bits per channel."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

LARGEST = 255
_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose 32-bit mode "I" holds 16 bits; TIFF's holds anything
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

    Modes of up to 8 bits per channel are converted by Pillow, without alpha. Of 16 bits, the upper 8 are kept. Numbers
    of 32 bits have no range of their own: whole numbers from 0 to 255 are taken as they are, and fractions from 0 to 1
    as shares of 255.

    Raises:
        PixelError: numbers of 32 bits are beyond that range, or Pillow cannot convert the mode.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "I":
        image = Image.fromarray(_checked(image, LARGEST, "whole numbers").astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(np.rint(_checked(image, 1, "fractions") * LARGEST).astype(np.uint8))
    elif image.mode == "LAB":
        return _from_lab(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PixelError(f"has pixels of the mode {image.mode}, which Pillow cannot convert: save it as RGB") from error


def _checked(image: Image.Image, largest: int, kind: str) -> np.ndarray:
    """Return the numbers of 32 bits of an image, all of them from 0 to ``largest``."""
    numbers = np.asarray(image)
    low, high = numbers.min(), numbers.max()
    if low >= 0 and high <= largest:
        return numbers
    raise PixelError(
        f"has {kind} of 32 bits from {low:g} to {high:g}, and which of them is white is only known from 0 to "
        f"{largest}: save it with 8 or 16 bits per channel"
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
