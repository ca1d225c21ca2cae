"""Label maps drawn on their photograph: a colour for each class, lines between regions, and a legend.

Small images are enlarged first. A class has one colour in all pictures; ignored pixels keep the photograph's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from foveal.report.legend import Entry, with_legend
from foveal.report.palette import class_colours
from foveal.report.picture import DARK, resized
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.predict import ClassShare

FILL = 0.55  # of a class's colour; the photograph keeps the rest
LINE = 0.7  # of the dark lines between regions
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as televisions weigh them


def draw_label_map(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], side: int | None = None
) -> np.ndarray:
    """The image in grey, tinted by the classes of its pixels, with thin lines between regions.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W), integers from 0 to ``len(classes) - 1`` or 255, whose pixels are left as they are.
        side: the longer side of the picture; None keeps the image's, and enlarges small ones to 640 at least.

    Returns:
        (H', W', 3) uint8, of the image's proportions.
    """
    picture = resized(image, side)
    labels = _resized_labels(labels, picture.shape[:2])
    seen = labels != IGNORED
    grey = picture[seen] @ BRIGHTNESS  # tints are to be found in the legend, whatever the photograph's colour
    picture[seen] = _mixed(grey[:, None], class_colours(classes)[labels[seen]], FILL)
    lines = _borders(labels, max(1, round(max(labels.shape) / 1200))) & seen
    picture[lines] = _mixed(picture[lines], np.array(DARK), LINE)
    return picture


def draw_prediction(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], shares: Sequence[ClassShare]
) -> np.ndarray:
    """``draw_label_map`` with a legend: the classes that are there, and their shares of the pixels."""
    colours = class_colours(classes)
    entries = [Entry(colours[share.label], share.name, share.share) for share in shares]
    return with_legend(draw_label_map(image, labels, classes), entries)


def _mixed(under: np.ndarray, over: np.ndarray, share: float) -> np.ndarray:
    return (under * np.float32(1 - share) + over * np.float32(share)).round().astype(np.uint8)


def _resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map in another size: each pixel's label is the one that has most of its surroundings.

    So borders are smooth where a map is enlarged, and what is thin stays where it is reduced.
    """
    if labels.shape == size:
        return labels
    most, found = np.zeros(size, np.uint8), np.full(size, IGNORED, labels.dtype)
    for label in np.unique(labels):
        part = Image.fromarray((labels == label).astype(np.uint8) * 255)
        share = np.asarray(part.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        found[share > most] = label
        most = np.maximum(most, share)
    return found


def _borders(labels: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with another label within ``reach`` in their row or column."""
    borders = np.zeros(labels.shape, bool)
    for step in range(1, reach + 1):
        across, down = labels[:, step:] != labels[:, :-step], labels[step:] != labels[:-step]
        for rim, differ in (
            (borders[:, step:], across),
            (borders[:, :-step], across),
            (borders[step:], down),
            (borders[:-step], down),
        ):
            rim |= differ
    return borders
