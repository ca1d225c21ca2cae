"""The most probable classes of images, from the logits of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Guess:
    """One class: its index among the logits, its name, and its probability between 0 and 1."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """An image file and its most probable classes, or its labels, best first."""

    path: str
    guesses: list[Guess]


USUAL = 5  # classes per image
THRESHOLD = 0.5  # probability above which a label is given


def guess(logits: np.ndarray, classes: Sequence[str], top_k: int | None = None) -> list[list[Guess]]:
    """Return the most probable classes of each row of logits, best first; of equal ones the first.

    Args:
        logits: (B, classes).
        classes: one name per logit, in order.
        top_k: number of classes; all if there are fewer. None for 5.
    """
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return _best(exponents / exponents.sum(1, keepdims=True), classes, USUAL if top_k is None else top_k)


def guess_labels(logits: np.ndarray, classes: Sequence[str], top_k: int | None = None) -> list[list[Guess]]:
    """Return the labels of each row of logits, each of which has a probability of its own, the sigmoid of its logit.

    Args:
        logits, classes: as for ``guess``.
        top_k: number of classes; None for all with a probability above 0.5, of which there may be none.
    """
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64).clip(-700, 700)))
    found = _best(probabilities, classes, len(classes) if top_k is None else top_k)
    return [[one for one in row if top_k is not None or one.probability > THRESHOLD] for row in found]


def _best(probabilities: np.ndarray, classes: Sequence[str], count: int) -> list[list[Guess]]:
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [Guess(index, classes[index], float(row[index])) for index in order.tolist()]
        for row, order in zip(probabilities, best)
    ]


def predictions(
    paths: Sequence[str | Path],
    logits: np.ndarray,
    classes: Sequence[str],
    top_k: int | None = None,
    multi_label: bool = False,
) -> list[Prediction]:
    """Return the prediction for each image file, from logits (B, classes) in the same order."""
    found = (guess_labels if multi_label else guess)(logits, classes, top_k)
    return [Prediction(str(path), guesses) for path, guesses in zip(paths, found, strict=True)]
