"""Set prediction: the batch's objects, their one-to-one matching with predictions, and the losses of the pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from foveal.tasks.dense.detr import at_least_float32
from foveal.tasks.detection.detector import Target
from foveal.types import Size

CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0
CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT = 1.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss


@dataclass(frozen=True)
class Objects:
    """The objects of B images, padded to the M of the image with the most.

    Attributes:
        labels: (B, M) int64, 0 in the padding.
        boxes: (B, M, 4) float as (cx, cy, w, h) relative to the image, 0 in the padding.
        counts: number of objects per image.
    """

    labels: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    @property
    def most(self) -> int:
        """The largest number of objects in an image, M."""
        return self.labels.shape[1]

    @property
    def present(self) -> Tensor:
        """(B, M) bool, False in the padding."""
        numbers = torch.arange(self.most, device=self.labels.device)
        return numbers < torch.tensor(self.counts, device=self.labels.device)[:, None]

    @classmethod
    def from_targets(cls, targets: Sequence[Target], image_sizes: Sequence[Size]) -> "Objects":
        """Collect targets whose boxes are (x1, y1, x2, y2) in pixels of images of these (height, width).

        Boxes and labels may be of any dtype: an empty list of labels easily becomes a float tensor.
        """
        boxes = []
        for target, (height, width) in zip(targets, image_sizes, strict=True):
            corners = target["boxes"].float()
            relative = corners / corners.new_tensor([width, height, width, height])
            boxes.append(box_convert(relative, "xyxy", "cxcywh"))
        labels = pad_sequence([target["labels"].long() for target in targets], batch_first=True)
        return cls(labels, pad_sequence(boxes, batch_first=True), tuple(len(b) for b in boxes))


def to_corners(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (cx, cy, w, h) to (x1, y1, x2, y2)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


class Pairs(NamedTuple):
    """K pairs of a prediction and an object, as indices: (K,) int64 each, on the predictions' device."""

    set: Tensor
    image: Tensor
    query: Tensor
    object: Tensor


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, objects: Objects) -> Pairs:
    """Return the cheapest assignment for each of S sets of predictions, such as a decoder's layers (DETR, 3.1).

    Args:
        logits: (S, B, Q, classes).
        boxes: (S, B, Q, 4) as (cx, cy, w, h) relative to the image.
        objects: of the images; if an image has more than Q, the most expensive stay unmatched.
    """
    logits, boxes, tables = at_least_float32(logits), at_least_float32(boxes), []
    for image, count in enumerate(objects.counts):
        labels, targets = objects.labels[image, :count], objects.boxes[image, :count]
        tables.append(matching_costs(logits[:, image], boxes[:, image], labels, targets.to(boxes.dtype)))
    # One copy from the device for all of them. Non-finite costs get an assignment too: the loss will show them.
    table = torch.cat(tables, -1).nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9).cpu()
    pairs = []
    for number, of_set in enumerate(table):
        for image, cost in enumerate(of_set.split(objects.counts, -1)):
            query, found = linear_sum_assignment(cost.numpy())
            pairs += [(number, image, int(q), int(m)) for q, m in zip(query, found, strict=True)]
    return Pairs(*torch.tensor(pairs, dtype=torch.int64).view(-1, 4).T.to(logits.device))


def matching_costs(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the cost (..., Q, M) of each prediction for each object: the weighted sum of class, L1 and GIoU costs.

    transformers' matcher computes the same, but for one set of predictions at a time and for the objects of all
    images, and raises for NaN boxes before the training loop could report in which layer they appeared.

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


def set_losses(
    logits: Tensor, boxes: Tensor, pairs: Pairs, objects: Objects, count: Tensor | float
) -> dict[str, Tensor]:
    """Return the weighted losses ``class`` (focal), ``l1`` and ``giou`` of S sets of predictions, (S,) each.

    Args:
        logits: (S, B, Q, classes); unmatched predictions are trained towards no class.
        boxes: (S, B, Q, 4) as (cx, cy, w, h) relative to the image.
        pairs: matched predictions and objects.
        objects: of the images.
        count: divisor of the sums; see ``mean_count``.
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
