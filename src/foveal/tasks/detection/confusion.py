"""Which class a detector takes for which: a confusion matrix with the background as one more class, and the objects
that were missed or invented.

Detections below a score are left out. The others choose in the order of their scores: each takes the annotated object
of any class that it overlaps most, if the IoU of the boxes is large enough and no other has taken it. Objects without a
detection are taken for background, and detections without an object are background taken for an object. A detection
that lies in a crowd is not counted, as in COCO's average precision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.tasks.detection.results import ImageResult

IOU, SCORE = 0.5, 0.5
BACKGROUND = "background"
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spurious:
    """A detection of a class that is not annotated there.

    Attributes:
        image_id: COCO's id of the image.
        box: (x1, y1, x2, y2) in pixels.
        label, score: of the detection.
        true: label of the object that it was taken for; None for the background.
    """

    image_id: int
    box: Box
    label: int
    score: float
    true: int | None


@dataclass(frozen=True)
class Missed:
    """An annotated object that nothing was detected at; box in pixels."""

    image_id: int
    box: Box
    label: int

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class DetectionConfusion:
    """The confusion of K classes.

    Attributes:
        counts: (K + 1, K + 1) int64, objects by true class (row) and detected class (column); the last of each is
            the background.
        spurious, missed: objects to look at.
        iou, score: the thresholds.
    """

    counts: np.ndarray
    spurious: list[Spurious]
    missed: list[Missed]
    iou: float = IOU
    score: float = SCORE

    def document(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the matrix and its thresholds in plain types."""
        return {
            "iou": self.iou,
            "score": self.score,
            "classes": [*classes, BACKGROUND],
            "counts": self.counts.tolist(),
        }


def confusion(
    results: Sequence[ImageResult],
    truth: Mapping[str, Any],
    category_ids: Sequence[int],
    iou: float = IOU,
    score: float = SCORE,
) -> DetectionConfusion:
    """Compare detections with annotated objects.

    Args:
        results: detections on each image.
        truth: a COCO document of exactly these images.
        category_ids: id of each label.
        iou: least IoU of the boxes of a pair.
        score: least score of a detection.
    """
    label_of = {identifier: label for label, identifier in enumerate(category_ids)}
    annotated = defaultdict(list)
    for annotation in truth["annotations"]:
        annotated[annotation["image_id"]].append(annotation)
    found = DetectionConfusion(np.zeros((len(category_ids) + 1,) * 2, np.int64), [], [], iou, score)
    for result in results:
        _add(found, result, annotated[result.image_id], label_of)
    return found


def _add(
    found: DetectionConfusion, result: ImageResult, annotations: Sequence[Mapping[str, Any]], label_of: dict[int, int]
) -> None:
    """Count one image."""
    objects = [one for one in annotations if not one.get("iscrowd")]
    crowds = _corners([one for one in annotations if one.get("iscrowd")])
    boxes, labels = _corners(objects), [label_of[one["category_id"]] for one in objects]
    background, free = len(found.counts) - 1, np.ones(len(objects), bool)
    certain = [at for at in np.argsort(-result.scores, kind="stable") if result.scores[at] >= found.score]
    for at in certain:
        box, label = result.boxes[at].astype(np.float64), int(result.labels[at])
        overlaps = np.where(free, _overlaps(box, boxes), -1.0)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        true: int | None = None
        if best >= 0 and overlaps[best] >= found.iou:
            true, free[best] = labels[best], False
        elif (_overlaps(box, crowds, of_box=True) >= found.iou).any():
            continue
        found.counts[background if true is None else true, label] += 1
        if true != label:
            found.spurious.append(Spurious(result.image_id, _box(box), label, float(result.scores[at]), true))
    for place in np.flatnonzero(free).tolist():
        found.counts[labels[place], background] += 1
        found.missed.append(Missed(result.image_id, _box(boxes[place]), labels[place]))


def _corners(annotations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    boxes = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _overlaps(box: np.ndarray, others: np.ndarray, of_box: bool = False) -> np.ndarray:
    """Return the IoU of a box with each of the others (N, 4), or the share of the box that each covers."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    own, theirs = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1)
    whole = np.full(len(others), own) if of_box else own + theirs - shared
    return np.divide(shared, whole, out=np.zeros(len(others)), where=whole > 0)


def _box(corners: np.ndarray) -> Box:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2
