"""What a trained segmenter gets right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from foveal.report.evaluation_segmentation import choose_examples, worst_examples
from foveal.report.findings import Findings, OnBatch, every_nth
from foveal.report.page_regions import iou_by_class, region_examples
from foveal.tasks.network import best_device
from foveal.tasks.segmentation.data import LabelledImages
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation, evaluate_segmenter
from foveal.tasks.segmentation.inference import label_map
from foveal.tasks.segmentation.segmenter import PixelSegmenter
from foveal.tasks.segmentation.task import SegmentationTask
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader
from foveal.training.processes import autocast
from foveal.wording import many, percent

MOST_IMAGES = 1_000  # that are looked at
MOST_EACH = 4  # images with the lowest IoU, and others


def look(task: Any, checkpoint: Path, on_batch: OnBatch | None = None) -> Findings:
    """See ``findings.look``."""
    config, images, device = task.recipe.train, task.val, best_device()
    known = SegmentationTask.restore(checkpoint)
    model, inference = known.model.to(device), known.inference
    every = every_nth(len(images), MOST_IMAGES)
    loader = evaluation_loader(images, 1, Share(0, every), config.workers, broken=config.broken)
    with autocast(device, config.precision):
        evaluation = evaluate_segmenter(model, loader, known.classes, inference, device=device, on_batch=on_batch)
        found = findings(evaluation, images, known.name, lambda image: label_map(model, image.to(device), inference))
    return replace(found, every=every, exports=isinstance(model, PixelSegmenter))


def findings(
    evaluation: SegmentationEvaluation, images: LabelledImages, model: str, segment: Callable[[Tensor], Tensor]
) -> Findings:
    """Return the parts of the page for the label maps of a segmenter; ``segment`` maps an image (3, H, W), float in
    [0, 1], to its classes (H, W)."""
    scores, classes = evaluation.scores, evaluation.classes
    over = "" if scores.scored == len(classes) else f" over {scores.scored} of {len(classes)} classes"
    lead = (
        f"{model} learned the class of every pixel, of {many(len(classes), 'class', 'classes')}. On "
        f"{many(evaluation.images, 'validation image')}, its mean IoU is {percent(scores.miou)}{over}."
    )
    worst = worst_examples(images, evaluation, segment, MOST_EACH)
    others = choose_examples(images, evaluation, segment, MOST_EACH)
    sections = [
        ("What it confuses", iou_by_class(evaluation)),
        (
            "Wrong and right",
            [
                region_examples("The images of the lowest mean IoU", worst, classes),
                region_examples("Other images, evenly over the set", others, classes),
            ],
        ),
    ]
    first = evaluation.each[0].place if evaluation.each else 0  # which could be read
    return Findings(lead, evaluation.images, len(images), sections, Path(images.paths[first]))
