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
    """An image file and its most probable classes, best first."""

    path: str
    guesses: list[Guess]


def guess(logits: np.ndarray, classes: Sequence[str], top_k: int = 5) -> list[list[Guess]]:
    """Return the most probable classes of each row of logits, best first; of equal ones the first.

    Args:
        logits: (B, classes).
        classes: one name per logit, in order.
        top_k: number of classes; all if there are fewer.
    """
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        [Guess(index, classes[index], float(row[index])) for index in order.tolist()]
        for row, order in zip(probabilities, best)
    ]


def predictions(
    paths: Sequence[str | Path], logits: np.ndarray, classes: Sequence[str], top_k: int = 5
) -> list[Prediction]:
    """Return the prediction for each image file, from logits (B, classes) in the same order."""
    return [Prediction(str(path), found) for path, found in zip(paths, guess(logits, classes, top_k), strict=True)]
