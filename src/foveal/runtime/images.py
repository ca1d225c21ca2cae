"""An RGB image as the input of an exported file: timm's evaluation transform in Pillow and NumPy, to the last bit."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.runtime.card import Card, Resizing
from foveal.types import Size

MOST_PIXELS = 100_000_000  # of a resized image, before its centre is cropped
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


def preprocess(image: Image.Image, card: Card, size: Size | None = None) -> np.ndarray:
    """Return an image in RGB, as ``foveal.image_files`` decodes it, as one input of a file.

    Args:
        card: of the file.
        size: (height, width) of the input; None for the size that the file was exported at.

    Returns:
        (3, height, width) float32.

    Raises:
        FovealError: the file takes another number of channels, or an unknown interpolation.
    """
    if card.input.channels != 3:
        raise FovealError(f"The file takes images of {card.input.channels} channels, and photographs have 3.")
    size = card.input.size if size is None else size
    return normalise(np.asarray(fit(image, card.resizing, size)), card.resizing)


def fit(image: Image.Image, resizing: Resizing, size: Size) -> Image.Image:
    """Return an image resized and cropped to ``size``, (height, width). An edge that is too short gets black sides."""
    method = _FILTERS.get(resizing.interpolation)
    if method is None:
        raise FovealError(f"The interpolation {resizing.interpolation!r} is unknown: export the network again.")
    height, width = _resized(image, resizing, size)
    check_narrow(height, width)
    if image.size != (width, height):
        image = image.resize((width, height), method)
    return _centre(image, size)


def check_narrow(height: int, width: int) -> None:
    """Raise FovealError for an image so narrow that it would be resized to more pixels than memory is meant for."""
    if height * width > MOST_PIXELS:
        raise FovealError(f"The image is too narrow: it would be resized to {width} x {height} pixels, so crop it.")


def normalise(pixels: np.ndarray, resizing: Resizing) -> np.ndarray:
    """Return pixels (H, W, C), uint8, as (C, H, W) float32 with the mean and standard deviation of a file."""
    channels = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (resizing.mean, resizing.std))
    return (channels / np.float32(255) - mean) / std


def _resized(image: Image.Image, resizing: Resizing, size: Size) -> Size:
    """Return (height, width) before the crop, rounded as torchvision does for squares and timm for other sizes."""
    if resizing.takes_whole(size):
        return size
    height, width = image.height, image.width
    target = [math.floor(side / resizing.crop) for side in size]
    if target[0] != target[1]:
        ratio = min(height / target[0], width / target[1])
        return round(height / ratio), round(width / ratio)
    short = target[0]
    long = int(short * max(height, width) / min(height, width))
    return (long, short) if width <= height else (short, long)


def _centre(image: Image.Image, size: Size) -> Image.Image:
    """Return the centre crop; what lies outside the image is black."""
    height, width = size
    # An odd number of missing pixels is padded more at the right and bottom; one of surplus pixels is rounded to even.
    left, top = (_offset(whole, part) for whole, part in ((image.width, width), (image.height, height)))
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


def _offset(whole: int, part: int) -> int:
    return round((whole - part) / 2) if whole >= part else -((part - whole) // 2)
