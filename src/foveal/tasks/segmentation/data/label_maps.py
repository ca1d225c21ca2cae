"""Label maps: PNG files with a number for each pixel, and the labels that the numbers stand for."""

from pathlib import Path

import numpy as np
from PIL import Image

from foveal.tasks.image_files import opened_image
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.training.samples import BrokenSample

WRONG = -1  # label of a number that no class has
NUMBERS = 256  # that a pixel of 8 bits may have


def label_map_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; only the head of the file is decoded.

    Raises:
        BrokenSample: it is missing or no image.
    """
    with opened_image(path) as image:
        return image.size


def read_label_map(path: Path) -> np.ndarray:
    """The numbers (H, W) of a label map as they are stored: greys of 8 or 16 bits, or places in a palette.

    Raises:
        BrokenSample: it is missing or cannot be read, or has no number for each pixel.
    """
    with opened_image(path) as image:
        if not _has_numbers(image):
            raise BrokenSample(
                str(path),
                f"{path} is stored as {_kind(image)}, and a label map has the number of a class for each pixel: save "
                "it as PNG in grey of 8 or 16 bits, or with a palette whose places are the classes.",
            )
        return np.array(image)


def _has_numbers(image: Image.Image) -> bool:
    """Greys of fewer bits have none: Pillow stretches them to 8 bits, and not everyone who writes them does."""
    return _kind(image) in ("L", "P", "I") or image.mode.startswith("I;16")


def _kind(image: Image.Image) -> str:
    """The mode, or how pixels lie in the file where that tells more: grey of 2 and 4 bits is L;2 and L;4."""
    tiles = getattr(image, "tile", None)
    layout = tiles[0][3] if tiles else None
    return layout if layout in ("L;2", "L;4") else image.mode


def label_table(num_classes: int, zero_ignored: bool) -> np.ndarray:
    """(257,) int64: of each number the label, ``IGNORED`` or ``WRONG``; the last stands for all others.

    Args:
        zero_ignored: 0 is ignored and class 0 has the number 1; MMSegmentation calls it ``reduce_zero_label``.
    """
    first = int(zero_ignored)
    classes = min(num_classes, IGNORED - first)
    table = np.full(NUMBERS + 1, WRONG, dtype=np.int64)
    table[first : first + classes] = np.arange(classes)
    table[:first] = table[IGNORED] = IGNORED
    return table


def labels_of(numbers: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """The labels (H, W) int64 of a label map's numbers, see ``label_table``.

    Raises:
        BrokenSample: a number belongs to no class; the first is named.
    """
    # Negative numbers, which 32 bits may hold, become the largest.
    labels = table[numbers if numbers.dtype == np.uint8 else np.minimum(numbers.astype(np.uint32), NUMBERS)]
    if labels.min() == WRONG:
        y, x = np.argwhere(labels == WRONG)[0]
        last = np.flatnonzero(table[:IGNORED] != WRONG)[-1]
        ignored = f"0 and {IGNORED}" if table[0] == IGNORED else f"{IGNORED}"
        raise BrokenSample(
            str(path),
            f"{path} has the number {numbers[y, x]} at x={x}, y={y}, and only 0 to {last} and {IGNORED} may be there, "
            f"{ignored} for ignored pixels: correct the label map, or name every class in classes.txt.",
        )
    return labels
