"""Real photographs that come with an installed scikit-image, and crops of them as backgrounds.

Only pictures inside its wheel are taken, so nothing is downloaded; none is in both splits.
"""

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
