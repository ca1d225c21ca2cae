"""A segmenter's evaluation for the eye: IoU of every class, what they are taken for, and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from foveal.plotting import COLOURS, new_figure, plain
from foveal.report.legend import Entry, Layout, with_legend_below
from foveal.report.palette import class_colours
from foveal.report.picture import resized
from foveal.report.segmentation import draw_label_map
from foveal.report.sheet import CAPTION, draw_sheet, draw_strip
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.metrics import SegmentationScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 38  # classes in a column of bars
LEAST_SHOWN = 0.5  # per cent, of a class's pixels that were taken for another: below, a square has no number


@dataclass(frozen=True)
class Example:
    """An image, (H, W, 3) uint8, with its label maps, (H, W) integers: as a person marked it, and as it was told."""

    name: str
    image: np.ndarray
    annotated: np.ndarray
    predicted: np.ndarray

    @property
    def right(self) -> float | None:
        """Percentage of the labelled pixels that were told right; None where none is labelled."""
        counted = self.annotated != IGNORED
        return 100 * float((self.annotated == self.predicted)[counted].mean()) if counted.any() else None


def draw_classes(scores: SegmentationScores, classes: Sequence[str], title: str) -> Figure:
    """IoU of each class as a bar, its accuracy as a mark, the best at the top; in several columns where there are many.

    Classes without an IoU are left out.
    """
    rows = [(name, iou, acc) for name, iou, acc in zip(classes, scores.iou, scores.accuracy, strict=True)]
    known = sorted([row for row in rows if row[1] is not None], key=lambda row: -(row[1] or 0))
    columns = -(-len(known) // LONGEST)
    length = -(-len(known) // columns)
    figure = new_figure(1.6 + 3.7 * columns, 1.3 + 0.2 * length)
    panels = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for number, axes in enumerate(panels):
        _class_panel(axes, known[number * length : (number + 1) * length], length, scores.miou)
    figure.suptitle(f"{title}: IoU of {len(known)} classes, %", x=0.01, horizontalalignment="left", fontsize=10)
    figure.supxlabel(
        f"Bars: IoU; dashed: their mean, mIoU {scores.miou:.1f}. Marks: accuracy, on average {scores.macc:.1f}.",
        fontsize=8,
    )
    return figure


def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """What the pixels of each class were taken for, in percent of them: a row for each class, a column for each answer.

    A class that no pixel has leaves its row empty.

    Args:
        counts: (C, C), pixels by their class (row) and the one that they were given (column).
    """
    total = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = 1.8 + 0.36 * len(classes)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if share >= LEAST_SHOWN:
            ink = "white" if share > 50 else "black"
            axes.text(column, row, f"{share:.0f}", color=ink, fontsize=7, ha="center", va="center")
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(length=0, labelsize=7)
    axes.set_xlabel("taken for", fontsize=8)
    axes.set_ylabel("pixels of", fontsize=8)
    figure.suptitle(f"{title}: pixels of each class, %", x=0.01, horizontalalignment="left", fontsize=10)
    return figure


def draw_examples(examples: Sequence[Example], classes: Sequence[str], columns: int = 2, side: int = 320) -> np.ndarray:
    """A sheet of images, each beside its annotated and its predicted label map, above one legend: (H, W, 3) uint8.

    Args:
        columns: images in a row.
        side: the longer side of each picture, in pixels.
    """
    sheet = draw_sheet([_strip(example, classes, side) for example in examples], columns)
    maps = [labels.ravel() for example in examples for labels in (example.annotated, example.predicted)]
    entries = _entries(np.concatenate(maps), classes)
    return with_legend_below(sheet, entries, Layout.of(entries, CAPTION))


def _class_panel(axes: Axes, rows: Sequence[tuple[str, float | None, float | None]], length: int, mean: float) -> None:
    axes.barh(range(len(rows)), [iou or 0 for _, iou, _ in rows], height=0.7, color=COLOURS[0])
    marks = [(accuracy, place) for place, (_, _, accuracy) in enumerate(rows) if accuracy is not None]
    if marks:
        axes.plot(*zip(*marks, strict=True), "|", color=COLOURS[5], markersize=8, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [f"{name}   {iou:.1f}" for name, iou, _ in rows], fontsize=8)
    axes.set(xlim=(0, 101), ylim=(length - 0.4, -0.6))
    axes.axvline(mean, color="black", linewidth=1, linestyle="--")
    plain(axes, "x")


def _strip(example: Example, classes: Sequence[str], side: int) -> Image.Image:
    told = "predicted" if example.right is None else f"predicted, {example.right:.1f} % right"
    pictures = [
        ("image", resized(example.image, side)),
        ("annotated", draw_label_map(example.image, example.annotated, classes, side)),
        (told, draw_label_map(example.image, example.predicted, classes, side)),
    ]
    return draw_strip(example.name, pictures, side)


def _entries(labels: np.ndarray, classes: Sequence[str]) -> list[Entry]:
    """The classes among labels (N,), the most frequent first."""
    counts = np.bincount(labels[labels != IGNORED], minlength=len(classes))
    colours = class_colours(classes)
    return [Entry(colours[label], classes[label]) for label in np.argsort(-counts, kind="stable") if counts[label]]
