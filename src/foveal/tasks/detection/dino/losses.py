"""What predictions that were paired with objects cost: focal loss, L1 and generalised IoU."""

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from foveal.tasks.dense.detr import at_least_float32
from foveal.tasks.detection.dino.matching import ALPHA, GAMMA, Pairs
from foveal.tasks.detection.dino.objects import Objects, to_corners

CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT = 1.0, 5.0, 2.0


def set_losses(
    logits: Tensor, boxes: Tensor, pairs: Pairs, objects: Objects, count: Tensor | float
) -> dict[str, Tensor]:
    """The weighted losses ``class``, ``l1`` and ``giou`` of S sets of predictions, (S,) each.

    Args:
        logits: (S, B, Q, classes); those of predictions without a pair are to become low for all classes.
        boxes: (S, B, Q, 4) as (cx, cy, w, h) relative to the image.
        pairs: which prediction answers for which object.
        objects: the objects.
        count: what sums are divided by; see ``dense.detr.mean_count``.
    """
    logits, boxes = at_least_float32(logits), at_least_float32(boxes)
    wanted = torch.zeros_like(logits)
    wanted[pairs.set, pairs.image, pairs.query, objects.labels[pairs.image, pairs.object]] = 1
    focal = sigmoid_focal_loss(logits, wanted, ALPHA, GAMMA).sum((1, 2, 3))
    found, target = boxes[pairs.set, pairs.image, pairs.query], objects.boxes[pairs.image, pairs.object]
    l1 = (found - target).abs().sum(-1)
    giou = generalized_box_iou_loss(to_corners(found), to_corners(target))
    return {
        "class": CLASS_WEIGHT / count * focal,
        "l1": L1_WEIGHT / count * _sum_by(pairs.set, l1, len(logits)),
        "giou": GIOU_WEIGHT / count * _sum_by(pairs.set, giou, len(logits)),
    }


def _sum_by(index: Tensor, values: Tensor, size: int) -> Tensor:
    return values.new_zeros(size).index_add(0, index, values)
