"""What a trained classifier gets right and wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.report.findings import Findings, OnBatch, every_nth
from foveal.report.page_classification import confusion, examples
from foveal.tasks.classification.answers import TopAnswers
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.evaluate import EvaluationSettings, score
from foveal.tasks.classification.network import Classifier, restore
from foveal.training.loading import continues
from foveal.wording import many

MOST_IMAGES = 10_000  # that are looked at
SINGLE_LABEL = "top1"  # the figure of images with one class each


def look(task: Any, checkpoint: Path, on_batch: OnBatch | None = None) -> Findings:
    """See ``findings.look``."""
    if task.monitor != SINGLE_LABEL:
        return Findings(f"{task.recipe.model} learned {many(len(task.val.classes), 'class', 'classes')}.", 0, 0, ())
    classifier = restore(checkpoint)
    found = findings(answers_of(task, classifier, on_batch), task.val, classifier.name)
    return replace(found, every=every_nth(len(task.val), MOST_IMAGES))


def answers_of(task: Any, classifier: Classifier, on_batch: OnBatch | None = None) -> TopAnswers:
    """Return the answers of a classifier on the validation images of a task, or on a part of very many."""
    config = task.recipe.train
    settings = EvaluationSettings(
        batch_size=task.validation_batch,
        workers=config.workers,
        precision=config.precision,
        broken=config.broken,
        every=every_nth(len(task.val), MOST_IMAGES),
    )
    answers = score(classifier, task.val, settings=settings, on_batch=on_batch).answers
    assert answers is not None
    return answers


def findings(answers: TopAnswers, images: Images, model: str) -> Findings:
    """Return the parts of the page for the answers of a classifier."""
    count, right = len(answers.targets), int(answers.right.sum())
    lead = (
        f"{model} learned to tell {many(len(images.classes), 'class', 'classes')} apart. Of "
        f"{many(count, 'validation image')}, it classifies {right:,} correctly."
    )
    sections = [
        ("What it confuses", confusion(answers.confusion(len(images.classes)), images.classes)),
        ("Wrong and right", examples(answers, images)),
    ]
    return Findings(lead, count, len(images), sections, _example(answers, images))


def _example(answers: TopAnswers, images: Images) -> Path | None:
    """Return the file of the first image, if it has one."""
    file = Path(images.names[int(answers.indices[0])]) if continues(images) else None
    return file if file is not None and file.is_file() else None
