"""A detector's results as sections of a page: average precision by class, precision against recall, confusion, and
images with annotated and detected objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveal.explain.figures.head_panels import encode
from foveal.report.details_detection import worst_missed, worst_spurious
from foveal.report.draw_objects import Comparison, draw_objects
from foveal.report.evaluation_detection import choose_examples
from foveal.report.page import Child, Html, Picture, el
from foveal.report.page_chart import COLOURS, Axis, Series, line_chart
from foveal.report.page_matrix import Matrix, class_table, side_by_side
from foveal.tasks.detection.average_precision import IOU_THRESHOLDS, RECALLS, AveragePrecision
from foveal.tasks.detection.confusion import BACKGROUND, DetectionConfusion
from foveal.tasks.detection.data import CocoImages
from foveal.tasks.detection.evaluate import DetectionEvaluation
from foveal.wording import many, percent

MOST_EACH = 4  # images with invented objects, with missed ones, and others
SIDE = 400  # longer side of a picture
ENDS = [0, 25, 50, 75, 100]
KINDS = {"box": "boxes", "mask": "masks"}


def precision_by_class(evaluation: DetectionEvaluation, counts: np.ndarray, classes: Sequence[str]) -> Child:
    """Return precision against recall as charts, and a table of the AP of each class.

    Args:
        counts: (K + 1, K + 1), the confusion with the background.
        classes: K names.
    """
    kinds = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    objects = counts[: len(classes)].sum(1).tolist()
    tables = [
        class_table(f"Average precision of {KINDS[kind.kind]} by class", *_rows(kind, classes, objects))
        for kind in kinds
    ]
    return [side_by_side(precision_chart(kind), table) for kind, table in zip(kinds, tables, strict=True)]


def _rows(
    kind: AveragePrecision, classes: Sequence[str], objects: Sequence[int]
) -> tuple[tuple[str, ...], list[tuple[str, Sequence[str], float | None, str]]]:
    rows: list[tuple[str, Sequence[str], float | None, str]] = []
    for name, count in zip(classes, objects, strict=True):
        figures = kind.by_class.get(name, {})
        whole = figures.get("ap")
        half = percent(figures["ap50"]) if "ap50" in figures else ""
        rows.append((name, (f"{count:,}", half), whole, "no object" if whole is None else percent(whole)))
    return ("class", "objects", "AP50", "AP"), rows


def precision_chart(kind: AveragePrecision) -> Html:
    """Return precision against recall at an IoU of 0.5: the mean over the classes, and a line of each class, of many
    those with the lowest AP."""
    recall, lines = [100 * value for value in RECALLS], 100 * kind.precision[IOU_THRESHOLDS.index(0.5)]
    at = {name: place for place, name in enumerate(kind.names)}
    lowest = sorted(kind.by_class, key=lambda name: kind.by_class[name]["ap50"])[: len(COLOURS)]
    lowest.sort(key=at.__getitem__)  # so that few classes have the same colours for boxes and masks
    series = [
        Series(f"mean of {many(len(kind.by_class), 'class', 'classes')}", np.nanmean(lines, axis=1).tolist(), "muted")
    ]
    if len(kind.by_class) > 1:
        series += [Series(name, lines[:, at[name]].tolist(), COLOURS[n]) for n, name in enumerate(lowest)]
    values = {line.name: f"AP50 {_ap50(kind, line.name):.2f}" for line in series}
    named = [Series(f"{line.name}, {values[line.name]}", line.values, line.colour) for line in series]
    few = "" if len(lowest) == len(kind.by_class) else f", the {len(lowest)} lowest classes"
    return line_chart(
        f"Precision of {KINDS[kind.kind]} at an IoU of 0.5{few}",
        recall,
        named,
        Axis("recall, %", ENDS),
        lambda _: "",
        floor=0,
        ceiling=100,
        y_name="precision, %",
    )


def _ap50(kind: AveragePrecision, name: str) -> float:
    return kind.by_class[name]["ap50"] if name in kind.by_class else kind.overall["ap50"]


def object_confusion(found: DetectionConfusion, classes: Sequence[str]) -> Child:
    """Return which class is taken for which, or for the background."""
    caption = (
        f"Objects of each true class (row) by detected class (column): IoU of the boxes from {found.iou:g}, score from "
        f"{found.score:g}"
    )
    text = (
        f"Row {BACKGROUND}: objects that were invented; column {BACKGROUND}: objects that were missed. "
        f"{many(len(found.missed), 'object')} were missed, and {many(len(found.spurious), 'detection')} have a wrong "
        "class or no object."
    )
    return side_by_side(Matrix.with_background(found.counts, classes, BACKGROUND, caption).html(), el("p", text))


def object_examples(evaluation: DetectionEvaluation, found: DetectionConfusion, images: CocoImages) -> Child:
    """Return images with annotated and detected objects: with the most certain invented ones, with the largest missed
    ones, and some evenly over the set."""
    results = {result.image_id: result for result in evaluation.results}
    rows = {
        "Invented or of a wrong class, the most certain ones": worst_spurious(found, images, MOST_EACH),
        "Missed, the largest ones": worst_missed(found, images, results, MOST_EACH),
        "Other images, evenly over the set": choose_examples(evaluation.results, images, MOST_EACH),
    }
    return [_row(title, comparisons) for title, comparisons in rows.items() if comparisons]


def _row(title: str, comparisons: Sequence[Comparison]) -> Child:
    return el("h3", title), el("div", [_pair(one) for one in comparisons], class_="strips two")


def _pair(comparison: Comparison) -> Html:
    parts = []
    for caption, objects in zip(comparison.captions, (comparison.annotated, comparison.detected), strict=True):
        names = ", ".join(sorted({one.name for one in objects})) or "no object"
        picture = draw_objects(comparison.image, objects, SIDE)
        alt = f"{comparison.name}, {caption}: {names}"
        parts.append(el("div", Picture(encode(picture, "JPEG"), alt, mime="image/jpeg").html(loading="lazy"), caption))
    return el("figure", el("div", parts, class_="strip"), el("figcaption", Path(comparison.name).name))
