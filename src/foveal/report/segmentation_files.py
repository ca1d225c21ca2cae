"""A segmenter's evaluation as files: figures, charts of the classes, and examples beside their annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foveal.plotting import save_whole
from foveal.report.evaluation import write_document
from foveal.report.picture import write_picture
from foveal.report.segmentation_scores import Example, draw_classes, draw_confusion, draw_examples
from foveal.tasks.segmentation.data import LabelledImages
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation

CLASSES, CONFUSION, EXAMPLES = "classes.png", "confusion.png", "examples.png"
MOST_CONFUSED = 30  # classes: of more, nobody could read a square
MOST_EXAMPLES = 8


def write_evaluation(
    folder: Path,
    document: dict[str, Any],
    evaluation: SegmentationEvaluation,
    examples: list[Example],
    title: str,
) -> None:
    """Write results.json, classes.png, examples.png and, of at most 30 classes, confusion.png into ``folder``.

    Args:
        document: what results.json holds.
        title: of the charts.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    write_document(folder, document)
    save_whole(draw_classes(evaluation.scores, evaluation.classes, title), folder / CLASSES)
    if len(evaluation.classes) <= MOST_CONFUSED:
        save_whole(draw_confusion(evaluation.counts.numpy(), evaluation.classes, title), folder / CONFUSION)
    write_picture(folder / EXAMPLES, draw_examples(examples, evaluation.classes))


def choose_examples(
    images: LabelledImages, evaluation: SegmentationEvaluation, segment: Callable[[Tensor], Tensor]
) -> list[Example]:
    """At most eight images, evenly over those that were evaluated, each with its label maps.

    Args:
        segment: an image (3, H, W), float in [0, 1], as its classes (H, W).
    """
    broken = set(evaluation.broken)
    files = zip(images.paths, images.label_paths, strict=True)
    whole_ones = [index for index, pair in enumerate(files) if broken.isdisjoint(map(str, pair))]
    places = np.linspace(0, len(whole_ones) - 1, min(MOST_EXAMPLES, len(whole_ones))).round().astype(int)
    return [_example(images, whole_ones[place], segment) for place in places]


def _example(images: LabelledImages, index: int, segment: Callable[[Tensor], Tensor]) -> Example:
    image, labels = images.image(index), images.labels(index)
    predicted = segment(image.float() / 255).cpu().numpy()
    return Example(images.name(index), image.permute(1, 2, 0).numpy(), labels.numpy(), predicted)
