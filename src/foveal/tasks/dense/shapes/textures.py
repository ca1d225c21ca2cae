"""Backgrounds and fillings of shapes: crops of photographs, and textures.

The photographs ship with scikit-image, so nothing is downloaded; none is used in both splits. Textures do not depend
on a shape's class.
"""

import colorsys
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from foveal.errors import FovealError

#: Names in ``skimage.data``, except drawings, scanned text, and nearly black pictures.
PHOTOGRAPHS = {
    "train": ("astronaut", "coffee", "stereo_motorcycle", "rocket", "retina", "coins", "brick", "gravel"),
    "val": ("chelsea", "camera", "grass", "immunohistochemistry"),
}


@cache
def photographs(split: str) -> tuple[Image.Image, ...]:
    """Return the photographs of a split ("train", "val") in RGB.

    Raises:
        FovealError: scikit-image is missing.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise FovealError(
            "The shapes need the photographs of scikit-image: install it with `pip install 'foveal[dense]'`."
        ) from error
    return tuple(_rgb(getattr(data, name)()) for name in PHOTOGRAPHS[split])


def random_crop(rng: np.random.Generator, split: str, height: int, width: int) -> np.ndarray:
    """Return a crop of a random photograph, (height, width, 3) uint8, randomly scaled, mirrored and brightened."""
    photos = photographs(split)
    photo = photos[rng.integers(len(photos))]
    most = min(photo.width / width, photo.height / height)  # pixels of the photograph per pixel of the crop
    scale = rng.uniform(min(0.8, most), min(2.5, most))
    left = rng.uniform(0, photo.width - scale * width)
    top = rng.uniform(0, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR, box), dtype=np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.clip(pixels * rng.uniform(0.7, 1.3), 0, 255).astype(np.uint8)


def _rgb(pixels: np.ndarray | tuple) -> Image.Image:
    """Convert a photograph to RGB, taking the left one of a stereo pair."""
    return Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels).convert("RGB")


Pattern = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]


def distinct_texture(rng: np.random.Generator, split: str, background: np.ndarray, tries: int = 3) -> np.ndarray:
    """Return the one of ``tries`` random textures whose mean colour differs most from the background's.

    Args:
        rng: source of randomness.
        split: split of the photographs.
        background: (height, width, 3) uint8, the region to be covered.
        tries: number of textures to choose from.

    Returns:
        (height, width, 3) float32 from 0 to 255.
    """
    mean = background.mean((0, 1))
    textures = [random_texture(rng, split, *background.shape[:2]) for _ in range(tries)]
    return max(textures, key=lambda texture: float(np.abs(texture.mean((0, 1)) - mean).sum()))


def random_texture(rng: np.random.Generator, split: str, height: int, width: int) -> np.ndarray:
    """Return a random texture, (height, width, 3) float32 from 0 to 255."""
    first, second = _two_colours(rng)
    kind = rng.integers(len(PATTERNS) + 1)
    if kind == len(PATTERNS):  # a photograph in shades of one colour, so that it stands out from other photographs
        grey = random_crop(rng, split, height, width).mean(2, keepdims=True) / 255
        return (0.4 * first + 0.6 * first * grey * 1.6).clip(0, 255).astype(np.float32)
    y, x = _rotated_grid(rng, height, width)
    period = rng.uniform(5, 12)
    share = PATTERNS[kind](rng, y, x, period)[..., None]
    return (first * (1 - share) + second * share).astype(np.float32)


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a vivid colour, and one of another hue or brightness."""
    hue, bright = rng.random(), rng.uniform(0.6, 1)
    first = colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1), bright)
    second = colorsys.hsv_to_rgb((hue + rng.uniform(-0.12, 0.12)) % 1, rng.uniform(0.2, 1), bright * 0.45)
    return np.array(first) * 255, np.array(second) * 255


def _rotated_grid(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates (y, x) in a randomly rotated and shifted frame."""
    angle, (shift_y, shift_x) = rng.uniform(0, 2 * np.pi), rng.uniform(0, 100, 2)
    y, x = np.mgrid[:height, :width]
    return y * np.cos(angle) - x * np.sin(angle) + shift_y, y * np.sin(angle) + x * np.cos(angle) + shift_x


def _stripes(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (np.sin(2 * np.pi * x / period) * 2 + 0.5).clip(0, 1)


def _checks(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (np.floor(x / period) + np.floor(y / period)) % 2


def _dots(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    distance = np.hypot(x % period - period / 2, y % period - period / 2)
    return (period * 0.32 - distance + 0.5).clip(0, 1)


def _noise(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    """Return blobs about half a period wide."""
    height, width = x.shape
    small = rng.random((int(height / period * 2) + 2, int(width / period * 2) + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


def _gradient(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (x - x.min()) / max(float(np.ptp(x)), 1.0)


PATTERNS: tuple[Pattern, ...] = (_stripes, _checks, _dots, _noise, _gradient)
