"""What a detector gets right and wrong, as files: average precision by class and size, precision-recall curves,
confusion, and the objects that were invented or missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from foveal.plotting import COLOURS, MUTED, new_figure, plain, save_whole
from foveal.report.chart_confusion import draw_confusion, most_confused, write_confusion, write_table
from foveal.report.draw import write_picture
from foveal.report.draw_objects import Comparison, draw_comparisons
from foveal.tasks.detection.average_precision import IOU_THRESHOLDS, RECALLS, AveragePrecision
from foveal.tasks.detection.confusion import BACKGROUND, DetectionConfusion, Missed, Spurious
from foveal.tasks.detection.data import CocoImages
from foveal.tasks.detection.evaluate import DetectionEvaluation
from foveal.tasks.detection.predict import DetectedObject, detected_objects
from foveal.tasks.detection.results import ImageResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES, CURVES, CONFUSION = "classes.csv", "precision_recall.csv", "confusion.csv"
CURVE_CHART, CONFUSION_CHART = "precision_recall_classes.png", "confusion.png"
SPURIOUS, MISSED = "false_positives.png", "misses.png"
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
MOST_SHOWN = 8  # images on a sheet
MOST_CURVES = 6  # classes with a colour of their own
Found = TypeVar("Found", Spurious, Missed)


def write_details(
    folder: Path, evaluation: DetectionEvaluation, found: DetectionConfusion, images: CocoImages, title: str
) -> None:
    """Write ``classes.csv``, ``precision_recall.csv`` and its chart by class, ``confusion.csv`` and its chart, and the
    worst false positives and misses, if there are any.

    Raises:
        FovealError: the folder cannot be written.
    """
    kinds = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    _write_classes(folder / CLASSES, kinds, found.counts, images.classes)
    _write_curves(folder / CURVES, kinds)
    save_whole(draw_curves(kinds, title), folder / CURVE_CHART)
    names = [*images.classes, BACKGROUND]
    write_confusion(folder / CONFUSION, found.counts, names, names, "true class")
    save_whole(confusion_chart(found, images.classes, title), folder / CONFUSION_CHART)
    results = {result.image_id: result for result in evaluation.results}
    sheets = {SPURIOUS: worst_spurious(found, images), MISSED: worst_missed(found, images, results)}
    for name, comparisons in sheets.items():
        (folder / name).unlink(missing_ok=True)
        if comparisons:
            write_picture(folder / name, draw_comparisons(comparisons))


def _write_classes(path: Path, kinds: Sequence[AveragePrecision], counts: np.ndarray, classes: Sequence[str]) -> None:
    """Write a row of each class: its objects, and each figure in percent."""
    heading = [f"{kind.kind}_{name}_percent" for kind in kinds for name in FIGURES]
    rows = [
        [name, objects, *(_rounded(kind.by_class.get(name, {}).get(one)) for kind in kinds for one in FIGURES)]
        for name, objects in zip(classes, counts[:-1].sum(1).tolist(), strict=True)
    ]
    write_table(path, ["class", "objects", *heading], rows)


def _write_curves(path: Path, kinds: Sequence[AveragePrecision]) -> None:
    """Write the precision of each class at every recall, at an IoU of 0.5; empty for a class without objects."""
    rows = []
    for kind in kinds:
        for at, name in enumerate(kind.names):
            line = kind.precision[IOU_THRESHOLDS.index(0.5), :, at]
            rows += [[kind.kind, name, recall, round(float(p), 4)] for recall, p in zip(RECALLS, line) if p == p]
    write_table(path, ["kind", "class", "recall", "precision"], rows)


def draw_curves(kinds: Sequence[AveragePrecision], title: str) -> Figure:
    """Draw precision against recall at an IoU of 0.5: a line of each class, those of the lowest AP in colour if there
    are many, and their mean; one panel for boxes and one for masks."""
    figure = new_figure(0.6 + 4.6 * len(kinds), 4.6)
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        _curve_panel(axes, kind)
        axes.set_title(f"{title}: {kind.kind} precision by class, IoU 0.5", fontsize=10, loc="left")
    return figure


def _curve_panel(axes: Axes, kind: AveragePrecision) -> None:
    recall, lines = np.array(RECALLS) * 100, 100 * kind.precision[IOU_THRESHOLDS.index(0.5)]
    known = [at for at, name in enumerate(kind.names) if name in kind.by_class]
    known.sort(key=lambda at: kind.by_class[kind.names[at]]["ap50"])
    for place, at in reversed(list(enumerate(known))):
        coloured = place < MOST_CURVES
        label = f"{kind.names[at]}: AP {kind.by_class[kind.names[at]]['ap50']:.1f}" if coloured else None
        style = {"color": COLOURS[place]} if coloured else {"color": "#cccccc", "linewidth": 0.8}
        axes.plot(recall, lines[:, at], label=label, **style)
    mean = f"mean of {len(known)} classes: AP {kind.overall['ap50']:.1f}"
    axes.plot(recall, np.nanmean(lines, axis=1), color=MUTED, linestyle="--", label=mean)
    axes.set(xlim=(0, 100), ylim=(0, 103))
    axes.set_xlabel("recall, %", fontsize=8)
    axes.set_ylabel("precision, %", fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="best")
    plain(axes, "both")


def confusion_chart(found: DetectionConfusion, classes: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix with the background as last row and column; of many classes those with the most
    mistakes."""
    background = len(classes)
    chosen = [at for at in most_confused(found.counts) if at != background]
    kept = [*chosen, background]
    part = found.counts[np.ix_(kept, kept)]
    names = [*(classes[at] for at in chosen), BACKGROUND]
    objects = found.counts.sum(1)
    rows = [f"{classes[at]} ({objects[at]:,})" for at in chosen]
    few = "" if len(chosen) == len(classes) else f"; the {len(chosen)} of {len(classes):,} classes with most mistakes"
    heading = f"{title}: objects of each class, %\nboxes with IoU from {found.iou:g}, score from {found.score:g}{few}"
    rows = [*rows, f"{BACKGROUND} ({objects[background]:,})"]
    return draw_confusion(part, rows, names, heading, ("true class (objects)", "detected class"))


def worst_spurious(found: DetectionConfusion, images: CocoImages, most: int = MOST_SHOWN) -> list[Comparison]:
    """Return the most certain false positive of each image, the most certain ones first, beside what is annotated."""
    shown = []
    for one in _worst(found.spurious, lambda one: -one.score, most):
        image, name, annotated = _image(one.image_id, images)
        what = "where nothing is annotated" if one.true is None else f"where a {images.classes[one.true]} is annotated"
        thing = DetectedObject(one.label, images.classes[one.label], one.score, one.box)
        captions = ("annotated", f"{thing.name} {one.score:.2f} {what}")
        shown.append(Comparison(name, image, annotated, [thing], captions))
    return shown


def worst_missed(
    found: DetectionConfusion, images: CocoImages, results: dict[int, ImageResult], most: int = MOST_SHOWN
) -> list[Comparison]:
    """Return the largest missed object of each image, the largest first, beside what was detected."""
    shown = []
    for one in _worst(found.missed, lambda one: -one.area, most):
        image, name, _ = _image(one.image_id, images)
        thing = DetectedObject(one.label, images.classes[one.label], None, one.box)
        result = results[one.image_id]
        rows = zip(result.labels.tolist(), result.scores.tolist(), result.boxes.tolist(), strict=True)
        detected = [
            DetectedObject(label, images.classes[label], score, tuple(box))
            for label, score, box in rows
            if score >= found.score
        ]
        captions = (f"missed: {thing.name}", "detected" if detected else "nothing detected")
        shown.append(Comparison(name, image, [thing], detected, captions))
    return shown


def _worst(found: Sequence[Found], key, most: int) -> list[Found]:  # type: ignore[no-untyped-def]
    """Return the worst one of each image, of at most ``most`` images."""
    worst: dict[int, Found] = {}
    for one in sorted(found, key=key):
        worst.setdefault(one.image_id, one)
    return list(worst.values())[:most]


def _image(image_id: int, images: CocoImages) -> tuple[np.ndarray, str, list[DetectedObject]]:
    index = images.image_ids.index(image_id)
    pixels = images.image(index).permute(1, 2, 0).numpy()
    return pixels, Path(images.paths[index]).name, detected_objects(images.target(index), images.classes)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
