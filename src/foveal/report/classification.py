"""What a classifier gets right and wrong: confusion, examples, predictions on files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.report.markup import Child, Html, el
from foveal.report.pieces import Picture, confusion_table, gallery, probability_bar
from foveal.tasks.classification.evaluate import Evaluation
from foveal.tasks.classification.predict import Prediction

MOST_EXAMPLES = 20  # of each kind: a page is to be read
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}


@dataclass(frozen=True)
class Example:
    """One evaluated image: its file, its class, the predicted class and the probability of that."""

    path: Path
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        return self.true == self.predicted


def confusion(evaluation: Evaluation) -> Child:
    """How many were wrong, the commonest mistake, and the whole table."""
    counts, classes = evaluation.confusion.numpy(), evaluation.classes
    wrong = counts - np.diag(np.diag(counts))
    text = f"{wrong.sum()} of {counts.sum()} validation images were taken for another class."
    if wrong.max() > 1:
        true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
        times = f"{wrong.max()} of {counts[true].sum()} images"
        text += f" The commonest mistake: {classes[true]} taken for {classes[predicted]} ({times})."
    elif wrong.sum() > 1:
        text += " No mistake was made twice."
    return el("p", text), confusion_table(counts, classes)


def examples(evaluation: Evaluation) -> Child:
    """The surest mistakes, and of every class the right answer that was least sure."""
    shown = _examples(evaluation)
    wrong = sorted((example for example in shown if not example.right), key=lambda example: -example.probability)
    right = _least_sure_of_each_class(example for example in shown if example.right)
    count = f"all {len(wrong)}" if len(wrong) <= MOST_EXAMPLES else f"the surest {MOST_EXAMPLES} of {len(wrong)}"
    mistakes = (
        _row(f"Wrong: {count}", wrong) if wrong else el("p", "Not one validation image was taken for another class.")
    )
    return mistakes, _row("Right, though least sure, one a class", right)


def predictions_on_files(predictions: Sequence[Prediction]) -> Child:
    """Each file with its most probable classes."""
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


def _least_sure_of_each_class(right: Iterable[Example]) -> list[Example]:
    """One a class: the sure answers have nothing to tell."""
    chosen: dict[str, Example] = {}
    for example in sorted(right, key=lambda example: example.probability):
        chosen.setdefault(example.true, example)
    return [chosen[name] for name in sorted(chosen)]


def _row(title: str, shown: Sequence[Example]) -> Child:
    return el("h3", title), gallery([_example_picture(example) for example in shown[:MOST_EXAMPLES]], "gallery pixels")


def _example_picture(example: Example) -> Picture:
    name = _short(example.path)
    alt = f"{name}: true class {example.true}, predicted {example.predicted}"
    truth = "right" if example.right else f"truly {example.true}"
    caption = el("strong", f"{example.predicted}, {100 * example.probability:.0f} %"), el("br"), truth, el("br"), name
    return _picture(example.path, alt, caption)


def _picture(path: Path, alt: str, caption: Html | tuple[Child, ...] | None = None) -> Picture:
    return Picture(path.read_bytes(), alt, caption, MIME[path.suffix.lower()])


def _short(path: str | Path) -> str:
    """Class folder and file name: what tells one image from another."""
    return "/".join(Path(path).parts[-2:])
