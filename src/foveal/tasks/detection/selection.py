"""From many scored boxes to an image's detections."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image


@dataclass(frozen=True)
class Selection:
    """Which of its boxes a detector shows.

    Attributes:
        score: those with a score above.
        overlap: intersection over union with a better box of the same class from above which a box goes.
        most: so many an image.
    """

    score: float
    overlap: float
    most: int

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """``boxes``, ``scores`` and ``labels`` of an image, best first.

        Args:
            boxes: (N, 4), cut at the image's border here; those that have no area then are left out.
            scores, labels: (N,), the scores looked at already.
            size: (height, width) of the image.
        """
        boxes = clip_boxes_to_image(boxes, size)
        there = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero()[:, 0]
        best = batched_nms(boxes[there], scores[there], labels[there], self.overlap)[: self.most]
        kept = there[best]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def full_precision(x: Tensor) -> Tensor:
    """In float32 at least: boxes in half types would be wrong by pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
