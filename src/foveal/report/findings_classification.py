"""What a trained classifier gets right and wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.report.findings import Findings, OnBatch, every_nth
from foveal.report.page_classification import confusion, examples
from foveal.report.page_matrix import class_table
from foveal.tasks.classification.answers import TopAnswers
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.evaluate import EvaluationSettings, score
from foveal.tasks.classification.label_scores import LabelScore, score_labels
from foveal.tasks.classification.network import Classifier, restore
from foveal.training.loading import continues
from foveal.wording import many, percent

MOST_IMAGES = 10_000  # that are looked at


def look(task: Any, checkpoint: Path, on_batch: OnBatch | None = None) -> Findings:
    """See ``findings.look``."""
    classifier = restore(checkpoint)
    if classifier.multi_label:
        found = label_findings(_labels_of(task, classifier, on_batch), task.val, classifier.name)
    else:
        found = findings(answers_of(task, classifier, on_batch), task.val, classifier.name)
    return replace(found, every=every_nth(len(task.val), MOST_IMAGES))


def answers_of(task: Any, classifier: Classifier, on_batch: OnBatch | None = None) -> TopAnswers:
    """Return the answers of a classifier on the validation images of a task, or on a part of very many."""
    answers = score(classifier, task.val, settings=_settings(task), on_batch=on_batch).answers
    assert answers is not None
    return answers


def _labels_of(task: Any, classifier: Classifier, on_batch: OnBatch | None) -> LabelScore:
    """Return the figures of a classifier of several labels per image."""
    settings, classes = _settings(task), len(task.val.classes)
    network, loader = settings.network(classifier), settings.loader(task.val)
    return score_labels(network, loader, settings.place, classes, on_batch=on_batch)


def _settings(task: Any) -> EvaluationSettings:
    config = task.recipe.train
    return EvaluationSettings(
        batch_size=task.validation_batch,
        workers=config.workers,
        precision=config.precision,
        broken=config.broken,
        every=every_nth(len(task.val), MOST_IMAGES),
    )


def findings(answers: TopAnswers, images: Images, model: str) -> Findings:
    """Return the parts of the page for the answers of a classifier."""
    count, right = len(answers.targets), int(answers.right.sum())
    lead = (
        f"{model} distinguishes {many(len(images.classes), 'class', 'classes')}. It classifies {right:,} of "
        f"{many(count, 'validation image')} correctly."
    )
    sections = [
        ("What it confuses", confusion(answers.confusion(len(images.classes)), images.classes)),
        ("Wrong and right", examples(answers, images)),
    ]
    return Findings(lead, count, len(images), sections, _example(answers, images))


def label_findings(score: LabelScore, images: Images, model: str) -> Findings:
    """Return the parts of the page for a classifier of several labels per image."""
    classes = images.classes
    lead = (
        f"{model} learned which of {many(len(classes), 'label')} an image has. On "
        f"{many(score.images, 'validation image')}, its mAP is {percent(score.mean)}."
    )
    rows = [
        (name, (f"{count:,}",), precision, "no image" if precision is None else percent(precision))
        for name, count, precision in zip(classes, score.per_class, score.precisions, strict=True)
    ]
    table = class_table("Average precision by label", ("label", "images", "AP"), rows)
    first = Path(images.names[0]) if continues(images) else None
    example = first if first is not None and first.is_file() else None
    return Findings(lead, score.images, len(images), [("Labels", table)], example)


def _example(answers: TopAnswers, images: Images) -> Path | None:
    """Return the file of the first image, if it has one."""
    file = Path(images.names[int(answers.indices[0])]) if continues(images) else None
    return file if file is not None and file.is_file() else None
