"""From many scored boxes to an image's detections."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image


def select(
    boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int], threshold: float, most: int
) -> dict[str, Tensor]:
    """The best boxes of an image, without those that another of their class covers.

    Args:
        boxes: (N, 4), cut at the image's border here; those without an area are left out.
        scores, labels: (N,).
        size: (height, width) of the image.
        threshold: intersection over union above which the box with the lower score goes.
        most: how many are kept.

    Returns:
        ``boxes``, ``scores`` and ``labels``, best first.
    """
    boxes = clip_boxes_to_image(boxes, size)
    there = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero()[:, 0]
    kept = there[batched_nms(boxes[there], scores[there], labels[there], threshold)[:most]]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def full_precision(x: Tensor) -> Tensor:
    """In float32 at least: boxes in half types would be wrong by pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
