"""A photograph that comes with an installed package, so that pictures need no download."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from foveal.errors import FovealError

CREDITS = {
    "flower": "flickr.com/photos/vultilion, CC BY 2.0, from scikit-learn",
    "china": "flickr.com/photos/danielbuechele, CC BY 2.0, from scikit-learn",
}


def sample_photograph(name: Literal["flower", "china"], side: int = 512) -> np.ndarray:
    """scikit-learn's sample photograph, its centre square resized: (side, side, 3) uint8.

    Both are published under CC BY 2.0; whoever shows them names their authors (`CREDITS`).

    Raises:
        FovealError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError as missing:
        raise FovealError(
            "The photograph comes with scikit-learn: install it with `pip install 'foveal[train]'`."
        ) from missing
    photo = load_sample_image(f"{name}.jpg")
    height, width = photo.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = Image.fromarray(photo[top : top + short, left : left + short])
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))
