"""Photographs and textures: the backgrounds and the fillings of shapes."""

import colorsys
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from foveal.errors import FovealError

#: Names in ``skimage.data``. Left out: drawings, scans of text, and pictures that are nearly black.
PHOTOGRAPHS = {
    "train": ("astronaut", "coffee", "stereo_motorcycle", "rocket", "retina", "coins", "brick", "gravel"),
    "val": ("chelsea", "camera", "grass", "immunohistochemistry"),
}


@cache
def photographs(split: str) -> tuple[Image.Image, ...]:
    """The photographs of a split ("train", "val") in RGB.

    Raises:
        FovealError: scikit-image is missing.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise FovealError(
            "The shapes are drawn on scikit-image's photographs: install it with `pip install 'foveal[dense]'`."
        ) from error
    return tuple(_rgb(getattr(data, name)()) for name in PHOTOGRAPHS[split])


def random_crop(draw: np.random.Generator, split: str, height: int, width: int) -> np.ndarray:
    """A piece of a random photograph, (height, width, 3) uint8: scaled, mirrored or not, darker or brighter."""
    photos = photographs(split)
    photo = photos[draw.integers(len(photos))]
    most = min(photo.width / width, photo.height / height)  # photograph's pixels for one of the crop
    scale = draw.uniform(min(0.8, most), min(2.5, most))
    left = draw.uniform(0, photo.width - scale * width)
    top = draw.uniform(0, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR, box), dtype=np.float32)
    if draw.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.clip(pixels * draw.uniform(0.7, 1.3), 0, 255).astype(np.uint8)


def _rgb(pixels: np.ndarray | tuple) -> Image.Image:
    """A photograph, of a stereo pair the left one."""
    return Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels).convert("RGB")


Pattern = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]


def distinct_texture(draw: np.random.Generator, split: str, background: np.ndarray, tries: int = 3) -> np.ndarray:
    """Of a few random textures the one whose mean colour is farthest from that of ``background``.

    Args:
        background: (height, width, 3) uint8, what the texture will cover.

    Returns:
        (height, width, 3) float32 from 0 to 255.
    """
    behind = background.mean((0, 1))
    textures = [random_texture(draw, split, *background.shape[:2]) for _ in range(tries)]
    return max(textures, key=lambda texture: float(np.abs(texture.mean((0, 1)) - behind).sum()))


def random_texture(draw: np.random.Generator, split: str, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 from 0 to 255."""
    first, second = _two_colours(draw)
    kind = draw.integers(len(PATTERNS) + 1)
    if kind == len(PATTERNS):  # a photograph, in one of the colours: seen in grey, and never lost in another one
        grey = random_crop(draw, split, height, width).mean(2, keepdims=True) / 255
        return (0.4 * first + 0.6 * first * grey * 1.6).clip(0, 255).astype(np.float32)
    y, x = _turned_grid(draw, height, width)
    period = draw.uniform(5, 12)
    share = PATTERNS[kind](draw, y, x, period)[..., None]
    return (first * (1 - share) + second * share).astype(np.float32)


def _two_colours(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A vivid colour, and one of another hue or brightness."""
    hue, bright = draw.random(), draw.uniform(0.6, 1)
    first = colorsys.hsv_to_rgb(hue, draw.uniform(0.5, 1), bright)
    second = colorsys.hsv_to_rgb((hue + draw.uniform(-0.12, 0.12)) % 1, draw.uniform(0.2, 1), bright * 0.45)
    return np.array(first) * 255, np.array(second) * 255


def _turned_grid(draw: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels in a frame that is turned and moved."""
    angle, (shift_y, shift_x) = draw.uniform(0, 2 * np.pi), draw.uniform(0, 100, 2)
    y, x = np.mgrid[:height, :width]
    return y * np.cos(angle) - x * np.sin(angle) + shift_y, y * np.sin(angle) + x * np.cos(angle) + shift_x


def _stripes(draw: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (np.sin(2 * np.pi * x / period) * 2 + 0.5).clip(0, 1)


def _checks(draw: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (np.floor(x / period) + np.floor(y / period)) % 2


def _dots(draw: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    distance = np.hypot(x % period - period / 2, y % period - period / 2)
    return (period * 0.32 - distance + 0.5).clip(0, 1)


def _noise(draw: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    """Blobs about half a period wide."""
    height, width = x.shape
    small = draw.random((int(height / period * 2) + 2, int(width / period * 2) + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


def _gradient(draw: np.random.Generator, y: np.ndarray, x: np.ndarray, period: float) -> np.ndarray:
    return (x - x.min()) / max(float(np.ptp(x)), 1.0)


PATTERNS: tuple[Pattern, ...] = (_stripes, _checks, _dots, _noise, _gradient)
