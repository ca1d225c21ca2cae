"""Which prediction answers for which object: the cheapest assignment, one to one (DETR, section 3.1)."""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from foveal.tasks.dense.detr import at_least_float32
from foveal.tasks.detection.dino.objects import Objects, to_corners

CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0


class Pairs(NamedTuple):
    """K predictions and their objects: (K,) int64 each, on the predictions' device."""

    set: Tensor
    image: Tensor
    query: Tensor
    object: Tensor


def costs(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The cost (..., Q, M) of each prediction for each object: class, L1 and GIoU with their weights.

    transformers' matcher computes the same, for one set of predictions at a time and for objects of all images, and
    raises where a box is not a number, before the training loop could say in which layer.

    Args:
        logits: (..., Q, classes).
        boxes: (..., Q, 4) as (cx, cy, w, h) relative to the image.
        labels: (M,).
        targets: (M, 4), boxes likewise.
    """
    found = logits.sigmoid()
    missed = 1 - found
    positive = -ALPHA * missed**GAMMA * (found + 1e-8).log()
    negative = -(1 - ALPHA) * found**GAMMA * (missed + 1e-8).log()
    l1 = torch.cdist(boxes, targets.expand(*boxes.shape[:-2], -1, -1), p=1)
    giou = generalized_box_iou(to_corners(boxes).flatten(0, -2), to_corners(targets)).view(l1.shape)
    return CLASS_COST * (positive - negative)[..., labels] + L1_COST * l1 - GIOU_COST * giou


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, objects: Objects) -> Pairs:
    """The cheapest assignment for each of S sets of predictions, such as the layers of a decoder.

    Args:
        logits: (S, B, Q, classes).
        boxes: (S, B, Q, 4) as (cx, cy, w, h) relative to the image.
        objects: what is there; where an image has more objects than Q, the dearest go without.
    """
    logits, boxes, tables = at_least_float32(logits), at_least_float32(boxes), []
    for image, count in enumerate(objects.counts):
        labels, targets = objects.labels[image, :count], objects.boxes[image, :count]
        tables.append(costs(logits[:, image], boxes[:, image], labels, targets.to(boxes.dtype)))
    # One copy from the device for all of them. An assignment exists whatever the numbers are: the loss will show
    # those that are none.
    table = torch.cat(tables, -1).nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9).cpu()
    pairs = []
    for number, of_set in enumerate(table):
        for image, cost in enumerate(of_set.split(objects.counts, -1)):
            query, found = linear_sum_assignment(cost.numpy())
            pairs += [(number, image, int(q), int(m)) for q, m in zip(query, found, strict=True)]
    return Pairs(*torch.tensor(pairs, dtype=torch.int64).view(-1, 4).T.to(logits.device))
