"""Which class pixels have and which one they were given: the counts, and the scores that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.segmentation.segmenter import IGNORED


@dataclass(frozen=True)
class SegmentationScores:
    """How well pixels were told, in percent, by MMSegmentation's rules.

    Attributes:
        miou: mean of ``iou`` over the classes that have one.
        macc: mean of ``accuracy`` over the classes that have one.
        aacc: of all labelled pixels those that were given their class.
        iou: of each class, pixels rightly given it, in proportion to those that have it or were given it; None where
            there are neither. A class that was given to pixels and that none has counts with 0.
        accuracy: of each class, those of its pixels that were given it; None where no pixel has it.
        pixels: of each class, how many have it.
    """

    miou: float
    macc: float
    aacc: float
    iou: list[float | None]
    accuracy: list[float | None]
    pixels: list[int]

    @property
    def metrics(self) -> dict[str, float]:
        """The overall figures under the names of a training log."""
        return {"miou": self.miou, "macc": self.macc, "aacc": self.aacc}


class ConfusionMatrix:
    """Counts of pixels by their class and by the one that they were given. Counts add up: over images, over processes.

    Attributes:
        counts: (num_classes, num_classes) int64 on the CPU: row i, column j are pixels of class i that were taken for
            class j.

    Raises:
        ValueError: more classes than labels can tell apart from ``IGNORED``.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be from 1 to {IGNORED}, not {num_classes}")
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def add(self, predicted: Tensor, labels: Tensor) -> None:
        """Count an image, or several: classes given and labels, integers of one shape, on one device.

        Pixels whose label is ``IGNORED`` count nowhere, whatever they were given.

        Raises:
            ValueError: shapes differ, or a number is no class.
        """
        if predicted.shape != labels.shape:
            raise ValueError(f"predicted classes {tuple(predicted.shape)} for labels {tuple(labels.shape)}")
        counted = labels != IGNORED
        true, given = labels[counted].long(), predicted[counted].long()
        if not true.numel():
            return
        for name, classes in (("labels", true), ("predicted classes", given)):
            low, high = (int(end) for end in classes.aminmax())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"{name} must be from 0 to {self.num_classes - 1}, not {low if low < 0 else high}")
        pairs = torch.bincount(true * self.num_classes + given, minlength=self.num_classes**2)
        self.counts += pairs.view_as(self.counts).cpu()

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        total = ConfusionMatrix(self.num_classes)
        total.counts = self.counts + other.counts
        return total

    def scores(self) -> SegmentationScores:
        """The scores of everything counted so far.

        Raises:
            FovealError: no pixel was counted.
        """
        right, true, given = self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)
        if not true.sum():
            raise FovealError(
                "No pixel of the images has a label that counts, all are ignored: check the label maps, and whether "
                "their 0 is a class or to be ignored."
            )
        iou, accuracy = _percent(right, true + given - right), _percent(right, true)
        (overall,) = _percent(right.sum(0, keepdim=True), true.sum(0, keepdim=True))
        assert overall is not None
        return SegmentationScores(_mean(iou), _mean(accuracy), overall, iou, accuracy, true.tolist())


def _percent(parts: Tensor, wholes: Tensor) -> list[float | None]:
    return [100 * part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
