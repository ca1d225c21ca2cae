"""A segmenter's results as sections of a page: IoU by class, confusion, and images with annotated and predicted label
maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.explain.figures.head_panels import encode
from foveal.report.draw import resized
from foveal.report.draw_label_map import Example, draw_label_map
from foveal.report.draw_legend import class_colours
from foveal.report.page import Child, Html, Picture, el, legend
from foveal.report.page_matrix import Matrix, class_table, side_by_side
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.wording import percent

SIDE = 320  # longer side of a picture
MOST_NAMED = 24  # classes of a legend


def iou_by_class(evaluation: SegmentationEvaluation) -> Child:
    """Return the confusion matrix in percent of the pixels of each class, beside the IoU of each class."""
    scores, classes = evaluation.scores, evaluation.classes
    whole = max(sum(scores.pixels), 1)
    rows = [
        (name, (_share(pixels / whole), _percent(accuracy)), iou, "no pixel" if iou is None else percent(iou))
        for name, pixels, accuracy, iou in zip(classes, scores.pixels, scores.accuracy, scores.iou, strict=True)
    ]
    caption = "Pixels of each annotated class (row) by predicted class (column), %"
    matrix = Matrix.of_classes(evaluation.counts.numpy(), classes, caption, shares=True).html()
    table = class_table("IoU by class", ("class", "pixels", "accuracy", "IoU"), rows)
    return side_by_side(matrix, table)


def region_examples(title: str, examples: Sequence[Example], classes: Sequence[str]) -> Child:
    """Return images with their annotated and predicted label maps, above a legend."""
    if not examples:
        return None
    maps = np.concatenate([part.ravel() for one in examples for part in (one.annotated, one.predicted)])
    counts = np.bincount(maps[maps != IGNORED], minlength=len(classes))
    colours = class_colours(classes)
    shown = sorted([at for at in np.argsort(-counts, kind="stable") if counts[at]][:MOST_NAMED])
    names = [("rgb({} {} {})".format(*colours[at].tolist()), classes[at]) for at in shown]
    return el("h3", title), legend(names), el("div", [_strip(one, classes) for one in examples], class_="strips two")


def _strip(example: Example, classes: Sequence[str]) -> Html:
    right = "" if example.right is None else f", {percent(example.right)} correct"
    pictures = {
        "image": resized(example.image, SIDE),
        "annotated": draw_label_map(example.image, example.annotated, classes, SIDE),
        example.said or f"predicted{right}": draw_label_map(example.image, example.predicted, classes, SIDE),
    }
    parts = [
        el(
            "div",
            Picture(encode(picture, "JPEG"), f"{example.name}, {what}", mime="image/jpeg").html(loading="lazy"),
            what,
        )
        for what, picture in pictures.items()
    ]
    return el("figure", el("div", parts, class_="strip"), el("figcaption", example.name))


def _share(value: float) -> str:
    return "< 0.01 %" if 0 < value < 0.0001 else percent(100 * value)


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)
