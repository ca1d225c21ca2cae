"""What a trained detector finds, misses and invents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.report.findings import Findings, OnBatch, every_nth
from foveal.report.page_objects import object_confusion, object_examples, precision_by_class
from foveal.tasks.detection.confusion import confusion
from foveal.tasks.detection.data import CocoImages, collate
from foveal.tasks.detection.evaluate import DetectionEvaluation, counted_truth, evaluate_detector
from foveal.tasks.detection.retinanet import RetinaNet
from foveal.tasks.detection.task import DetectionTask
from foveal.tasks.network import best_device
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader
from foveal.training.processes import autocast
from foveal.wording import many, percent

MOST_IMAGES = 1_000  # that are looked at


def look(task: Any, checkpoint: Path, on_batch: OnBatch | None = None) -> Findings:
    """See ``findings.look``."""
    config, images, device = task.recipe.train, task.val, best_device()
    known = DetectionTask.restore(checkpoint)
    every = every_nth(len(images), MOST_IMAGES)
    loader = evaluation_loader(images, 1, Share(0, every), config.workers, collate=collate, broken=config.broken)
    with autocast(device, config.precision):
        evaluation = evaluate_detector(known.model.to(device), loader, images, device=device, on_batch=on_batch)
    exports = isinstance(known.model, RetinaNet)
    return replace(findings(evaluation, images, known.name), every=every, exports=exports)


def findings(evaluation: DetectionEvaluation, images: CocoImages, model: str) -> Findings:
    """Return the parts of the page for the detections of a detector."""
    truth = counted_truth(images, {result.image_id for result in evaluation.results})
    found = confusion(evaluation.results, truth, images.category_ids)
    lead = (
        f"{model} learned to find objects of {many(len(images.classes), 'class', 'classes')}. On "
        f"{many(evaluation.images, 'validation image')}, the average precision of its boxes is "
        f"{percent(evaluation.box.overall['ap'])}{evaluation.box.scope}."
    )
    sections = [
        ("How well it finds each class", precision_by_class(evaluation, found.counts, images.classes)),
        ("What it confuses", object_confusion(found, images.classes)),
        ("Wrong and right", object_examples(evaluation, found, images)),
    ]
    first = images.image_ids.index(evaluation.results[0].image_id)  # which could be read
    return Findings(lead, evaluation.images, len(images), sections, Path(images.paths[first]))
