"""Confusion matrices of pixel classes, and the segmentation scores computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.segmentation.segmenter import IGNORED


@dataclass(frozen=True)
class SegmentationScores:
    """Segmentation scores in percent, as MMSegmentation defines them.

    Attributes:
        miou: mean of ``iou`` over the classes that have one.
        macc: mean of ``accuracy`` over the classes that have one.
        aacc: share of labelled pixels that are classified correctly.
        iou: intersection over union of labelled and predicted pixels, per class; 0 for a class that is predicted but
            never labelled, None for one that is neither.
        accuracy: share of labelled pixels that are classified correctly, per class; None if no pixel has the class.
        pixels: number of labelled pixels per class.
    """

    miou: float
    macc: float
    aacc: float
    iou: list[float | None]
    accuracy: list[float | None]
    pixels: list[int]

    @property
    def scored(self) -> int:
        """The number of classes that ``miou`` is over."""
        return sum(value is not None for value in self.iou)

    @property
    def measured(self) -> int:
        """The number of classes that ``macc`` is over: those that have a pixel."""
        return sum(value is not None for value in self.accuracy)

    @property
    def metrics(self) -> dict[str, float]:
        """Overall scores by the names used in training logs."""
        return {"miou": self.miou, "macc": self.macc, "aacc": self.aacc}


class ConfusionMatrix:
    """Pixel counts by labelled and predicted class. Matrices add up over images and processes.

    Attributes:
        counts: (num_classes, num_classes) int64 on the CPU; row i, column j counts pixels of class i that were
            predicted as class j.

    Raises:
        ValueError: ``num_classes`` is below 1 or above ``IGNORED``.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be from 1 to {IGNORED}, not {num_classes}")
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def add(self, predicted: Tensor, labels: Tensor) -> None:
        """Count one or more images, given predicted classes and labels: integers of the same shape and device.

        Pixels labelled ``IGNORED`` are not counted.

        Raises:
            ValueError: shapes differ, or a value is not a class.
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
        """Compute the scores of everything counted so far.

        Raises:
            FovealError: no pixel was counted.
        """
        right, true, given = self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)
        if not true.sum():
            raise FovealError(
                "All pixels of the images are ignored: check the label maps, and whether 0 in them is a class or an "
                "ignored pixel."
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
