"""Label maps drawn on their photograph: one colour per class, lines between regions, and a legend.

Small images are enlarged first. A class has one colour in all pictures; ignored pixels keep the photograph's colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foveal.report.draw import CAPTION, DARK, draw_sheet, draw_strip, resized
from foveal.report.draw_legend import Entry, Layout, class_colours, with_legend, with_legend_below
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.predict import ClassShare

FILL = 0.55  # opacity of a class's colour over the photograph
LINE = 0.7  # opacity of the dark lines between regions
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green and blue in luma (BT.601)


@dataclass(frozen=True)
class Example:
    """An image, (H, W, 3) uint8, with its annotated and its predicted label map, (H, W) integers, and what is written
    above the latter if that is not the share of correct pixels."""

    name: str
    image: np.ndarray
    annotated: np.ndarray
    predicted: np.ndarray
    said: str | None = None

    @property
    def right(self) -> float | None:
        """Percentage of the labelled pixels that are correct; None if no pixel is labelled."""
        counted = self.annotated != IGNORED
        return 100 * float((self.annotated == self.predicted)[counted].mean()) if counted.any() else None


def draw_label_map(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], side: int | None = None
) -> np.ndarray:
    """Draw the image in grey, tinted by the classes of its pixels, with thin lines between regions.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W), integers from 0 to ``len(classes) - 1``, or 255 for pixels to leave unchanged.
        classes: names of the classes.
        side: longer side of the result; None keeps the image's size, but enlarges small images to 640 pixels.

    Returns:
        (H', W', 3) uint8, of the image's proportions.
    """
    picture = resized(image, side)
    labels = _resized_labels(labels, picture.shape[:2])
    seen = labels != IGNORED
    grey = picture[seen] @ BRIGHTNESS  # tints must match the legend, whatever the photograph's colour
    picture[seen] = _blended(grey[:, None], class_colours(classes)[labels[seen]], FILL)
    lines = _borders(labels, max(1, round(max(labels.shape) / 1200))) & seen
    picture[lines] = _blended(picture[lines], np.array(DARK), LINE)
    return picture


def draw_prediction(
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    shares: Sequence[ClassShare],
    side: int | None = None,
) -> np.ndarray:
    """Draw a label map as ``draw_label_map`` does, with a legend of the classes in it and their shares of the
    pixels."""
    colours = class_colours(classes)
    entries = [Entry(colours[share.label], share.name, share.share) for share in shares]
    return with_legend(draw_label_map(image, labels, classes, side), entries)


def draw_examples(examples: Sequence[Example], classes: Sequence[str], columns: int = 2, side: int = 320) -> np.ndarray:
    """Draw a sheet of images, each beside its annotated and predicted label map, above one legend: (H, W, 3) uint8.

    Args:
        examples: the images with their label maps.
        classes: names of the classes.
        columns: images per row.
        side: longer side of each picture, in pixels.
    """
    sheet = draw_sheet([_strip(example, classes, side) for example in examples], columns)
    maps = [labels.ravel() for example in examples for labels in (example.annotated, example.predicted)]
    entries = _entries(np.concatenate(maps), classes)
    return with_legend_below(sheet, entries, Layout.of(entries, CAPTION))


def _strip(example: Example, classes: Sequence[str], side: int) -> Image.Image:
    usual = "predicted" if example.right is None else f"predicted, {example.right:.1f} % correct"
    caption = example.said or usual
    pictures = [
        ("image", resized(example.image, side)),
        ("annotated", draw_label_map(example.image, example.annotated, classes, side)),
        (caption, draw_label_map(example.image, example.predicted, classes, side)),
    ]
    return draw_strip(example.name, pictures, side)


def _entries(labels: np.ndarray, classes: Sequence[str]) -> list[Entry]:
    """Return the classes among labels (N,), most frequent first."""
    counts = np.bincount(labels[labels != IGNORED], minlength=len(classes))
    colours = class_colours(classes)
    return [Entry(colours[label], classes[label]) for label in np.argsort(-counts, kind="stable") if counts[label]]


def _blended(under: np.ndarray, over: np.ndarray, share: float) -> np.ndarray:
    return (under * np.float32(1 - share) + over * np.float32(share)).round().astype(np.uint8)


def _resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map: each pixel gets the label with the largest share of its neighbourhood.

    Borders are therefore smooth in an enlarged map, and thin regions survive in a reduced one.
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
    """Return the pixels that have another label within ``reach`` in their row or column."""
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
