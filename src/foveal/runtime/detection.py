"""Objects on images by an exported detector: the input as in the detector's evaluation, and the selection of its boxes.

A file has a box and scores for every anchor, as RetinaNet's. What is selected of them depends on the content of the
image, which runtimes do less alike than products: it is done here, in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foveal.errors import FovealError
from foveal.runtime.card import Card
from foveal.runtime.padded import input_size, pad, resize, within
from foveal.runtime.session import Session
from foveal.types import Size

BOXES, SCORES = "boxes", "scores"


@dataclass(frozen=True)
class Evaluation:
    """How images are fed to a detector, and how its boxes are selected.

    Attributes:
        short, long: sides in pixels that images are resized to: the short side to ``short``, or less if the long one
            would exceed ``long``.
        divisor: padded sides are multiples of it.
        strides: pixels between the anchors of each level.
        per_cell: anchors at each of these positions.
        score: detections have a score above this.
        overlap: detections of a class overlap by at most this intersection over union.
        candidates: scores per level that are considered, the best ones.
        most: detections per image.
    """

    short: int
    long: int
    divisor: int
    strides: tuple[int, ...]
    per_cell: int
    score: float
    overlap: float
    candidates: int
    most: int

    @classmethod
    def of(cls, card: Card) -> Evaluation:
        """Return what a file says. Raises FovealError if it is not of a detector, or does not say it."""
        if card.task != "detection":
            raise FovealError(f"The file is for {card.task}, not a detector: pass the file of one.")
        try:
            found = cls(**card.settings["evaluation"])
            return replace(found, strides=tuple(found.strides))
        except (KeyError, TypeError) as error:
            raise FovealError("The file does not say how its boxes are selected: export the detector again.") from error

    def sized(self, short: int) -> Evaluation:
        """Return the settings for images with another short side; the long one in proportion."""
        return replace(self, short=short, long=round(short / self.short * self.long))

    def fitted(self, height: int, width: int) -> Size:
        """Return the (height, width) that an image is resized to, rounded to the nearest."""
        scale = min(self.short / min(height, width), self.long / max(height, width))
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects on an image, best first.

    Attributes:
        boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels of the image.
        scores: (N,) float32 between 0 and 1.
        labels: (N,) int64, the index of the class.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def detect(session: Session, pixels: np.ndarray, evaluation: Evaluation | None = None) -> Detections:
    """Return the objects on an image.

    A file of any size gives the answer of the network that it was exported from. A file of a fixed size takes the image
    as a batch with a larger image does: in its corner, and zeros elsewhere.

    Args:
        session: of a detector's file.
        pixels: (H, W, 3) uint8, RGB.
        evaluation: None for what the file says.

    Raises:
        FovealError: the file is of another task, or fails.
    """
    card = session.card
    evaluation = Evaluation.of(card) if evaluation is None else evaluation
    own = (pixels.shape[0], pixels.shape[1])
    size = within(card.input, evaluation.fitted(*own))
    given = pad(resize(pixels, size), card.resizing, input_size(card.input, size, evaluation.divisor))
    found = session.run(given[None])
    inside = _inside(size, (given.shape[1], given.shape[2]), evaluation)
    selected = select(found[BOXES][0], found[SCORES][0], inside, size, evaluation)
    return replace(selected, boxes=selected.boxes * _ratios(own, size))


def select(
    boxes: np.ndarray, scores: np.ndarray, inside: list[np.ndarray], size: Size, evaluation: Evaluation
) -> Detections:
    """Return detections by non-maximum suppression per class, best first.

    Args:
        boxes: (A, 4), level after level; clipped to the image here, and dropped if nothing is left.
        scores: (A, classes).
        inside: of each level, which of its anchors are in the image.
        size: (height, width) of the image.
    """
    anchors, labels = _candidates(scores, inside, evaluation)
    values = scores[anchors, labels]
    height, width = size
    clipped = boxes[anchors].clip(0, np.array([width, height, width, height], np.float32))
    valid = (clipped[:, 2:] > clipped[:, :2]).all(1)
    clipped, values, labels = clipped[valid], values[valid], labels[valid]
    kept = [rows[suppress(clipped[rows], values[rows], evaluation.overlap)] for rows in _by_class(labels)]
    every = np.concatenate(kept) if kept else np.empty(0, np.int64)
    best = every[np.argsort(-values[every], kind="stable")][: evaluation.most]
    return Detections(clipped[best], values[best], labels[best])


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Return the indices of boxes (N, 4), best first, without those that overlap a better kept one by more than
    ``overlap``."""
    left = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        corner, end = (
            np.maximum(boxes[first, :2], boxes[left, :2]), np.minimum(boxes[first, 2:], boxes[left, 2:])
        )  # fmt: skip
        shared = (end - corner).clip(0).prod(1)
        left = left[shared / (areas[first] + areas[left] - shared) <= overlap]
    return np.array(kept, np.int64)


def _candidates(scores: np.ndarray, inside: list[np.ndarray], evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Return anchors and labels of each level's best scores, possibly several classes of one anchor."""
    found, first = [], 0
    for of_level in inside:
        part = scores[first : first + len(of_level)]
        anchors, labels = ((part > evaluation.score) & of_level[:, None]).nonzero()
        order = np.argsort(-part[anchors, labels], kind="stable")[: evaluation.candidates]
        found.append((anchors[order] + first, labels[order]))
        first += len(of_level)
    anchors, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return anchors, labels


def _inside(size: Size, padded: Size, evaluation: Evaluation) -> list[np.ndarray]:
    """Return of each level, which anchors begin in the image as it would be padded alone: in a file of a fixed size,
    others lie in padding that the image would not have."""
    divisor = evaluation.divisor
    levels = []
    for stride in evaluation.strides:
        rows, columns = (
            np.arange(-(-whole // stride)) * stride < -(-side // divisor) * divisor
            for whole, side in zip(padded, size, strict=True)
        )
        levels.append((rows[:, None] & columns).ravel().repeat(evaluation.per_cell))
    return levels


def _by_class(labels: np.ndarray) -> list[np.ndarray]:
    return [(labels == label).nonzero()[0] for label in np.unique(labels)]


def _ratios(own: Size, size: Size) -> np.ndarray:
    height, width = (np.float32(whole) / np.float32(part) for whole, part in zip(own, size, strict=True))
    return np.array([width, height, width, height], np.float32)
