"""The most probable class of every image that a classifier was evaluated on, and what follows from it: accuracy by
class, the confusion matrix, the worst mistakes, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BINS = 15  # as in Guo et al. 2017


@dataclass(frozen=True)
class TopAnswers:
    """The answers on N images, in the order of the data set.

    Attributes:
        indices: (N,) int64, of the images in the data set.
        targets: (N,) int64, the true classes.
        predictions: (N,) int64, the most probable classes.
        confidences: (N,) float32, their probabilities.
    """

    indices: Tensor
    targets: Tensor
    predictions: Tensor
    confidences: Tensor

    def confusion(self, classes: int) -> Tensor:
        """Return (K, K) int64: number of images of true class i that were classified as class j."""
        pairs = self.targets * classes + self.predictions
        return torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    @property
    def right(self) -> Tensor:
        """(N,) bool."""
        return self.targets == self.predictions

    def mistakes(self) -> Tensor:
        """Return the places of the wrong answers in these tensors, the most confident first."""
        wrong = (~self.right).nonzero()[:, 0]
        return wrong[self.confidences[wrong].argsort(descending=True, stable=True)]

    def calibration(self, bins: int = BINS) -> Calibration:
        """Return how far confidence and accuracy are apart."""
        return Calibration.of(self.confidences, self.right, bins)


def class_accuracies(confusion: Tensor) -> list[float | None]:
    """Return the accuracy of each class in percent, None for a class without an image."""
    counts = confusion.sum(1).tolist()
    return [100 * hit / count if count else None for hit, count in zip(confusion.diagonal().tolist(), counts)]


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy in bins of equal width; bin m of M holds confidences above (m - 1) / M up to m / M.

    Attributes:
        counts: images in each bin.
        confidences: their mean confidence in percent, None in an empty bin.
        accuracies: their accuracy in percent, None in an empty bin.
    """

    counts: tuple[int, ...]
    confidences: tuple[float | None, ...]
    accuracies: tuple[float | None, ...]

    @classmethod
    def of(cls, confidences: Tensor, right: Tensor, bins: int = BINS) -> Calibration:
        """Sort N answers into bins.

        Args:
            confidences: (N,), from 0 to 1.
            right: (N,) bool.
        """
        places = torch.bucketize(confidences, torch.linspace(0, 1, bins + 1, dtype=confidences.dtype)[1:-1])
        counts = torch.bincount(places, minlength=bins)

        def means(values: Tensor) -> tuple[float | None, ...]:
            sums = torch.bincount(places, weights=values.double(), minlength=bins).tolist()
            return tuple(100 * total / count if count else None for total, count in zip(sums, counts.tolist()))

        return cls(tuple(counts.tolist()), means(confidences), means(right))

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al. 2015; Guo et al. 2017) in percent: the distance between
        confidence and accuracy, averaged over all images."""
        pairs = zip(self.counts, self.confidences, self.accuracies)
        gaps = (count * abs(sure - right) for count, sure, right in pairs if sure is not None and right is not None)
        return sum(gaps) / max(sum(self.counts), 1)

    def document(self) -> dict[str, Any]:
        """Return the figures in plain types."""
        return {
            "expected_calibration_error": self.error,
            "bins": len(self.counts),
            "images": list(self.counts),
            "confidence": list(self.confidences),
            "accuracy": list(self.accuracies),
        }
