"""A segmenter's evaluation as files: results, charts of the classes, and examples with annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from foveal.plotting import COLOURS, new_figure, plain, save_whole
from foveal.report.chart_confusion import MOST_CONFUSED, write_confusion, write_table
from foveal.report.chart_confusion import draw_confusion as confusion_chart
from foveal.report.draw import write_picture
from foveal.report.draw_label_map import Example, draw_examples
from foveal.report.evaluation import write_document
from foveal.tasks.segmentation.data import LabelledImages
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.tasks.segmentation.metrics import SegmentationScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES, CONFUSION, EXAMPLES, WORST = "classes.png", "confusion.png", "examples.png", "worst.png"
MOST_EXAMPLES = 8
LONGEST = 38  # classes per column of bars


def write_evaluation(
    folder: Path,
    document: dict[str, Any],
    evaluation: SegmentationEvaluation,
    examples: list[Example],
    title: str,
) -> None:
    """Write ``results.json``, ``classes.png``, ``examples.png`` and, for at most 30 classes, ``confusion.png``.

    Args:
        folder: where to write.
        document: content of ``results.json``.
        evaluation: scores and confusion matrix.
        examples: images to show, see ``choose_examples``.
        title: title of the charts.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    write_document(folder, document)
    save_whole(draw_classes(evaluation.scores, evaluation.classes, title), folder / CLASSES)
    if len(evaluation.classes) <= MOST_CONFUSED:
        save_whole(draw_confusion(evaluation.counts.numpy(), evaluation.classes, title), folder / CONFUSION)
    write_picture(folder / EXAMPLES, draw_examples(examples, evaluation.classes))


def choose_examples(
    images: LabelledImages,
    evaluation: SegmentationEvaluation,
    segment: Callable[[Tensor], Tensor],
    most: int = MOST_EXAMPLES,
) -> list[Example]:
    """Choose at most ``most`` images, evenly over the evaluated ones, each with its label maps.

    Args:
        images: the evaluated images.
        evaluation: names the images that could not be read.
        segment: maps an image (3, H, W), float in [0, 1], to its classes (H, W).
    """
    broken = set(evaluation.broken)
    files = zip(images.paths, images.label_paths, strict=True)
    whole_ones = [index for index, pair in enumerate(files) if broken.isdisjoint(map(str, pair))]
    places = np.linspace(0, len(whole_ones) - 1, min(most, len(whole_ones))).round().astype(int)
    return [_example(images, whole_ones[place], segment) for place in places]


def _example(
    images: LabelledImages, index: int, segment: Callable[[Tensor], Tensor], said: str | None = None
) -> Example:
    image, labels = images.image(index), images.labels(index)
    predicted = segment(image.float() / 255).cpu().numpy()
    return Example(images.name(index), image.permute(1, 2, 0).numpy(), labels.numpy(), predicted, said)


def worst_examples(
    images: LabelledImages,
    evaluation: SegmentationEvaluation,
    segment: Callable[[Tensor], Tensor],
    most: int = MOST_EXAMPLES,
) -> list[Example]:
    """Choose at most ``most`` images, those of the lowest mean IoU, each with its label maps; see
    ``choose_examples``."""
    worst = evaluation.worst[:most]
    return [_example(images, one.place, segment, f"predicted, mIoU {one.miou:.2f} %") for one in worst]


def write_details(
    folder: Path, evaluation: SegmentationEvaluation, images: LabelledImages, worst: list[Example]
) -> None:
    """Write ``classes.csv``, ``confusion.csv``, ``images.csv`` and the worst images.

    Raises:
        FovealError: the folder cannot be written.
    """
    scores, classes = evaluation.scores, evaluation.classes
    rows = zip(classes, scores.pixels, map(_rounded, scores.iou), map(_rounded, scores.accuracy), strict=True)
    write_table(folder / "classes.csv", ["class", "pixels", "iou_percent", "accuracy_percent"], list(rows))
    write_confusion(folder / "confusion.csv", evaluation.counts.numpy(), classes, classes, "annotated class")
    each = [[images.name(one.place), round(one.accuracy, 2), round(one.miou, 2)] for one in evaluation.each]
    write_table(folder / "images.csv", ["image", "accuracy_percent", "miou_percent"], each)
    (folder / WORST).unlink(missing_ok=True)
    if worst:
        write_picture(folder / WORST, draw_examples(worst, classes))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def draw_classes(scores: SegmentationScores, classes: Sequence[str], title: str) -> Figure:
    """Draw the IoU of each class as a bar and its accuracy as a mark, best at the top, in several columns if there
    are many.

    Classes without an IoU are omitted.
    """
    rows = [(name, iou, acc) for name, iou, acc in zip(classes, scores.iou, scores.accuracy, strict=True)]
    known = sorted([row for row in rows if row[1] is not None], key=lambda row: -(row[1] or 0))
    columns = -(-len(known) // LONGEST)
    length = -(-len(known) // columns)
    figure = new_figure(1.6 + 3.7 * columns, 1.3 + 0.2 * length)
    panels = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for number, axes in enumerate(panels):
        _class_panel(axes, known[number * length : (number + 1) * length], length, scores.miou)
    of = "" if len(known) == len(rows) else f" of {len(rows)}"
    figure.suptitle(f"{title}: IoU of {len(known)}{of} classes, %", x=0.01, horizontalalignment="left", fontsize=10)
    figure.supxlabel(
        f"Bars: IoU; dashed: mean, mIoU {scores.miou:.1f}. Marks: accuracy, mean {scores.macc:.1f}.",
        fontsize=8,
    )
    return figure


def draw_confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix in percent of the pixels of each true class (row).

    The row of a class without pixels is empty.

    Args:
        counts: (C, C), pixels by true class (row) and predicted class (column).
        classes: names of the C classes.
        title: title of the chart.
    """
    return confusion_chart(counts, classes, classes, f"{title}: pixels of each class, %", ("annotated", "predicted"))


def _class_panel(axes: Axes, rows: Sequence[tuple[str, float | None, float | None]], length: int, mean: float) -> None:
    axes.barh(range(len(rows)), [iou or 0 for _, iou, _ in rows], height=0.7, color=COLOURS[0])
    marks = [(accuracy, place) for place, (_, _, accuracy) in enumerate(rows) if accuracy is not None]
    if marks:
        axes.plot(*zip(*marks, strict=True), "|", color=COLOURS[5], markersize=8, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [f"{name}   {iou:.1f}" for name, iou, _ in rows], fontsize=8)
    axes.set(xlim=(0, 101), ylim=(length - 0.4, -0.6))
    axes.axvline(mean, color="black", linewidth=1, linestyle="--")
    plain(axes, "x")
