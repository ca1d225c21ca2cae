"""A detector's evaluation as files: results, detections in COCO's format, charts, and examples with annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.plotting import COLOURS, MUTED, new_figure, plain, save_whole
from foveal.report.details_detection import write_details
from foveal.report.draw import write_picture
from foveal.report.draw_objects import Comparison, draw_comparisons
from foveal.report.evaluation import write_document
from foveal.tasks.detection.average_precision import IOU_THRESHOLDS, RECALLS, AveragePrecision
from foveal.tasks.detection.confusion import DetectionConfusion
from foveal.tasks.detection.data import CocoImages
from foveal.tasks.detection.evaluate import DetectionEvaluation, write_detections
from foveal.tasks.detection.predict import DetectedObject, detected_objects
from foveal.tasks.detection.results import ImageResult
from foveal.tasks.detection.rle import Rle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRECISION_RECALL, CLASSES, EXAMPLES = "precision_recall.png", "classes.png", "examples.png"
MOST_EXAMPLES = 8
LEAST_SCORE = 0.5  # of detections shown in the examples
CURVES = {"ap50": (0.5, COLOURS[0]), "ap75": (0.75, COLOURS[5])}
SIZE_MARKS = {"small": (4, COLOURS[3]), "medium": (6, COLOURS[1]), "large": (8, COLOURS[2])}  # marker and colour
TITLES = {"box": "boxes", "mask": "masks"}


def write_evaluation(
    folder: Path,
    document: dict[str, Any],
    evaluation: DetectionEvaluation,
    found: DetectionConfusion,
    images: CocoImages,
    title: str,
) -> None:
    """Write ``results.json``, the detections, ``precision_recall.png``, ``classes.png``, ``examples.png``, and the
    details (see ``details_detection``).

    Args:
        folder: where to write.
        document: content of ``results.json``.
        evaluation: scores and detections.
        found: what was confused, invented and missed.
        images: the evaluated images with their annotations.
        title: title of the charts.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    write_document(folder, document)
    write_detections(folder, evaluation, images.category_ids)
    scores = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    save_whole(draw_precision_recall(scores, title), folder / PRECISION_RECALL)
    save_whole(draw_classes(scores, title), folder / CLASSES)
    write_picture(folder / EXAMPLES, draw_comparisons(choose_examples(evaluation.results, images)))
    write_details(folder, evaluation, found, images, title)


def choose_examples(results: Sequence[ImageResult], images: CocoImages, most: int = MOST_EXAMPLES) -> list[Comparison]:
    """Choose a few images, evenly over the set, with their annotations and their more certain detections."""
    chosen = np.linspace(0, len(results) - 1, min(most, len(results))).round().astype(int)
    place = {image_id: index for index, image_id in enumerate(images.image_ids)}
    return [_comparison(results[number], images, place[results[number].image_id]) for number in chosen]


def _comparison(result: ImageResult, images: CocoImages, index: int) -> Comparison:
    pixels = images.image(index).permute(1, 2, 0).numpy()
    annotated = detected_objects(images.target(index), images.classes)
    return Comparison(Path(images.paths[index]).name, pixels, annotated, _detected(result, images.classes))


def _detected(result: ImageResult, classes: Sequence[str]) -> list[DetectedObject]:
    masks: Sequence[Rle | None] = result.masks or [None] * len(result.scores)
    rows = zip(result.labels.tolist(), result.scores.tolist(), result.boxes.tolist(), masks, strict=True)
    return [
        DetectedObject(label, classes[label], score, tuple(box), mask)
        for label, score, box, mask in rows
        if score >= LEAST_SCORE
    ]


def draw_precision_recall(scores: Sequence[AveragePrecision], title: str) -> Figure:
    """Draw precision, averaged over the classes, against recall: at IoU 0.5 and 0.75, and the mean over all ten
    thresholds; one panel for boxes and one for masks."""
    figure = new_figure(0.6 + 4.4 * len(scores), 4.2)
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for axes, one in zip(panels, scores, strict=True):
        _precision_panel(axes, one)
        axes.set_title(f"{title}: precision of {TITLES[one.kind]}, %", fontsize=10, loc="left")
    return figure


def draw_classes(scores: Sequence[AveragePrecision], title: str) -> Figure:
    """Draw the AP of each class as a bar, best at the top: one panel for boxes and one for masks, in the same order."""
    order = sorted(scores[0].classes, key=lambda name: -scores[0].classes[name])
    figure = new_figure(0.6 + 4.4 * len(scores), 1.2 + 0.2 * len(order))
    panels = figure.subplots(1, len(scores), squeeze=False, sharex=True)[0]
    for number, (axes, one) in enumerate(zip(panels, scores, strict=True)):
        values = [one.classes[name] for name in order]
        axes.barh(range(len(order)), values, height=0.7, color=COLOURS[0])
        _mark_sizes(axes, one, order)
        labels = [f"{name if number == 0 else ''}   {value:.1f}" for name, value in zip(order, values, strict=True)]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.axvline(one.overall["ap"], color="black", linewidth=1, linestyle="--")
        axes.set_xlabel(f"AP, %; dashed: mean {one.overall['ap']:.1f}{one.scope}", fontsize=8)
        axes.set_title(f"{title}: AP of {TITLES[one.kind]} by class, %", fontsize=10, loc="left")
        axes.set_xlim(left=0)
        plain(axes, "x")
    return figure


def _mark_sizes(axes: Axes, scores: AveragePrecision, order: Sequence[str]) -> None:
    """Mark the AP of small, medium and large objects on the bar of each class."""
    for size, (marker, colour) in SIZE_MARKS.items():
        pairs = [(scores.by_class.get(name, {}).get(f"ap_{size}"), place) for place, name in enumerate(order)]
        known = [(value, place) for value, place in pairs if value is not None]
        if known:
            style: dict[str, Any] = {"color": colour, "markersize": marker, "markeredgecolor": "white"}
            axes.plot(*zip(*known, strict=True), "o", label=f"{size} objects", **style)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, loc="lower right")


def _precision_panel(axes: Axes, scores: AveragePrecision) -> None:
    by_iou = np.nanmean(scores.precision, axis=2)
    recall = np.array(RECALLS) * 100
    for name, (iou, colour) in CURVES.items():
        line = by_iou[IOU_THRESHOLDS.index(iou)] * 100
        axes.plot(recall, line, color=colour, label=f"IoU {iou:.2f}: AP {scores.overall[name]:.1f}")
    mean = f"mean of IoU 0.50 to 0.95: AP {scores.overall['ap']:.1f}{scores.scope}"
    axes.plot(recall, by_iou.mean(0) * 100, color=MUTED, linestyle="--", label=mean)
    axes.set(xlim=(0, 100), ylim=(0, 103))
    axes.set_xlabel("recall, %", fontsize=8)
    axes.set_ylabel("precision, mean over classes, %", fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="best")
    plain(axes, "both")
