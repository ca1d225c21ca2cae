"""A classifier's results as sections of a page: confusion, examples, predictions on files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.report.page import Child, Html, Picture, confusion_table, el, gallery, probability_bar
from foveal.tasks.classification.evaluate import Evaluation
from foveal.tasks.classification.predict import Prediction

MOST_EXAMPLES = 20  # of each kind, to keep the page readable
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}


@dataclass(frozen=True)
class Example:
    """One evaluated image: its file, true class, predicted class, and the probability of the predicted class."""

    path: Path
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        return self.true == self.predicted


def confusion(evaluation: Evaluation) -> Child:
    """Return the number of errors, the most common confusion, and the whole confusion matrix."""
    counts, classes = evaluation.confusion.numpy(), evaluation.classes
    wrong = counts - np.diag(np.diag(counts))
    text = f"{wrong.sum()} of {counts.sum()} validation images were misclassified."
    if wrong.max() > 1:
        true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
        times = f"{wrong.max()} of {counts[true].sum()} images"
        text += f" The most common confusion: {classes[true]} taken for {classes[predicted]} ({times})."
    elif wrong.sum() > 1:
        text += " No confusion occurred twice."
    return el("p", text), confusion_table(counts, classes)


def examples(evaluation: Evaluation) -> Child:
    """Return the most confident errors, and the least confident correct prediction of each class."""
    shown = _examples(evaluation)
    wrong = sorted((example for example in shown if not example.right), key=lambda example: -example.probability)
    right = _least_confident_of_each_class(example for example in shown if example.right)
    count = (
        f"all {len(wrong)}" if len(wrong) <= MOST_EXAMPLES else f"the {MOST_EXAMPLES} most confident of {len(wrong)}"
    )
    errors = _row(f"Wrong: {count}", wrong) if wrong else el("p", "No validation image was misclassified.")
    return errors, _row("Correct, but least confident, one per class", right)


def predictions_on_files(predictions: Sequence[Prediction]) -> Child:
    """Return each file with its most probable classes."""
    cards = [
        el(
            "figure",
            _picture(Path(prediction.path), f"The image {_short(prediction.path)}").html(),
            el("div", [probability_bar(guess.name, guess.probability) for guess in prediction.guesses]),
            el("figcaption", _short(prediction.path)),
        )
        for prediction in predictions
    ]
    return el("div", cards, class_="predictions pixels")


def _examples(evaluation: Evaluation) -> list[Example]:
    best = evaluation.probabilities.max(dim=1)
    names = evaluation.classes
    answers = zip(
        evaluation.paths, evaluation.targets.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
    )
    return [Example(Path(path), names[true], names[guess], value) for path, true, guess, value in answers]


def _least_confident_of_each_class(right: Iterable[Example]) -> list[Example]:
    chosen: dict[str, Example] = {}
    for example in sorted(right, key=lambda example: example.probability):
        chosen.setdefault(example.true, example)
    return [chosen[name] for name in sorted(chosen)]


def _row(title: str, shown: Sequence[Example]) -> Child:
    return el("h3", title), gallery([_example_picture(example) for example in shown[:MOST_EXAMPLES]], "gallery pixels")


def _example_picture(example: Example) -> Picture:
    name = _short(example.path)
    alt = f"{name}: true class {example.true}, predicted {example.predicted}"
    truth = "correct" if example.right else f"true class {example.true}"
    caption = el("strong", f"{example.predicted}, {100 * example.probability:.0f} %"), el("br"), truth, el("br"), name
    return _picture(example.path, alt, caption)


def _picture(path: Path, alt: str, caption: Html | tuple[Child, ...] | None = None) -> Picture:
    return Picture(path.read_bytes(), alt, caption, MIME[path.suffix.lower()])


def _short(path: str | Path) -> str:
    """Return class folder and file name, which identify an image."""
    return "/".join(Path(path).parts[-2:])
