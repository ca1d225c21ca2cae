"""A detector's evaluation as files: figures, what was found in COCO's form, curves, and examples beside their
annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveal.plotting import save_whole
from foveal.report.detection_scores import Comparison, draw_classes, draw_comparisons, draw_precision_recall
from foveal.report.evaluation import write_document
from foveal.report.picture import write_picture
from foveal.tasks.detection.data import CocoImages
from foveal.tasks.detection.evaluate import DetectionEvaluation, write_detections
from foveal.tasks.detection.predict import DetectedObject, detected_objects
from foveal.tasks.detection.results import ImageResult
from foveal.tasks.detection.rle import Rle

CURVES, CLASSES, EXAMPLES = "precision_recall.png", "classes.png", "examples.png"
MOST_EXAMPLES = 8
SHOWN_FROM = 0.5  # score


def write_evaluation(
    folder: Path, document: dict[str, Any], evaluation: DetectionEvaluation, images: CocoImages, title: str
) -> None:
    """Write results.json, the detections, precision_recall.png, classes.png and examples.png into ``folder``.

    Args:
        document: what results.json holds.
        images: those that were evaluated, as they are annotated.
        title: of the pictures.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    write_document(folder, document)
    write_detections(folder, evaluation, images.category_ids)
    scores = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    save_whole(draw_precision_recall(scores, title), folder / CURVES)
    save_whole(draw_classes(scores, title), folder / CLASSES)
    write_picture(folder / EXAMPLES, draw_comparisons(examples(evaluation.results, images)))


def examples(results: Sequence[ImageResult], images: CocoImages) -> list[Comparison]:
    """At most eight images, evenly over the set, with what a person marked and what was found with some certainty."""
    chosen = np.linspace(0, len(results) - 1, min(MOST_EXAMPLES, len(results))).round().astype(int)
    place = {image_id: index for index, image_id in enumerate(images.image_ids)}
    return [_comparison(results[number], images, place[results[number].image_id]) for number in chosen]


def _comparison(result: ImageResult, images: CocoImages, index: int) -> Comparison:
    pixels = images.image(index).permute(1, 2, 0).numpy()
    annotated = detected_objects(images.target(index), images.classes)
    return Comparison(Path(images.paths[index]).name, pixels, annotated, _found(result, images.classes))


def _found(result: ImageResult, classes: Sequence[str]) -> list[DetectedObject]:
    masks: Sequence[Rle | None] = result.masks or [None] * len(result.scores)
    rows = zip(result.labels.tolist(), result.scores.tolist(), result.boxes.tolist(), masks, strict=True)
    return [
        DetectedObject(label, classes[label], score, tuple(box), mask)
        for label, score, box, mask in rows
        if score >= SHOWN_FROM
    ]
