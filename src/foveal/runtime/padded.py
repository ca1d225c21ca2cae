"""Images of any shape as inputs of detectors and segmenters: resized in proportion, normalised, padded with zeros."""

from __future__ import annotations

import numpy as np
from PIL import Image

from foveal.runtime.card import Input, Resizing
from foveal.types import Size


def resize(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Return pixels (H, W, 3) uint8 as (3, *size) float32 in [0, 1]: bilinear, with antialiasing, never rounded."""
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    if image.shape[1:] == size:
        return image
    height, width = size
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def pad(image: np.ndarray, resizing: Resizing, size: Size) -> np.ndarray:
    """Return an image (3, h, w) in [0, 1] as (3, *size), normalised, with zeros at the right and bottom."""
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (resizing.mean, resizing.std))
    padded = np.zeros((3, *size), np.float32)
    padded[:, : image.shape[1], : image.shape[2]] = (image - mean) / std
    return padded


def input_size(given: Input, size: Size, divisor: int) -> Size:
    """Return the (height, width) that an image resized to ``size`` is padded to: the file's, or for a file of any size
    the next multiple of ``divisor``."""
    if not given.any_size:
        return given.size
    height, width = (-(-max(side, given.smallest) // divisor) * divisor for side in size)
    return height, width


def within(given: Input, size: Size) -> Size:
    """Return ``size`` made smaller in proportion if it is larger than the file's fixed one."""
    factor = min(limit / side for limit, side in zip(given.size, size))
    if given.any_size or factor >= 1:
        return size
    height, width = (min(max(int(side * factor + 0.5), 1), limit) for side, limit in zip(size, given.size))
    return height, width
