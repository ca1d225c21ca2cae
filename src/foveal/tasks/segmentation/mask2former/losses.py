"""Bipartite matching of predictions and segments, and the set losses (Mask2Former, section 3.2)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from foveal.ops.numerics import without_autocast
from foveal.tasks.dense.detr import at_least_float32, mean_count
from foveal.tasks.segmentation.mask2former.points import (
    Segments,
    random_points,
    sample,
    sample_segments,
    uncertain_points,
)

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
"""Weights of matching costs and of losses."""
NO_OBJECT_WEIGHT = 0.1


class Pairs(NamedTuple):
    """K matched predictions and segments for each of S layers, image by image.

    Attributes:
        image: (K,) int64, the same for all layers.
        query: (S, K) int64.
        label: (S, K) int64, the segments' classes.
    """

    image: Tensor
    query: Tensor
    label: Tensor


def costs(logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the weighted costs (B, Q, M) of each prediction for each segment: class, cross entropy and dice.

    Args:
        logits: (B, Q, classes + 1).
        masks: (B, Q, P), mask logits at P points.
        labels: (B, M), the segments' classes.
        targets: (B, M, P) in [0, 1], coverage of each point by each segment.
    """
    found = logits.softmax(-1)
    by_class = -found.gather(2, labels[:, None].expand(-1, found.shape[1], -1))
    together = masks @ targets.mT
    # The cross entropy of a logit x and a target t in [0, 1] is softplus(x) - x t.
    by_mask = (F.softplus(masks).sum(-1, keepdim=True) - together) / masks.shape[-1]
    probabilities = masks.sigmoid()
    sums = probabilities.sum(-1)[..., None] + targets.sum(-1)[:, None]
    by_dice = 1 - (2 * probabilities @ targets.mT + 1) / (sums + 1)
    return CLASS_WEIGHT * by_class + MASK_WEIGHT * by_mask + DICE_WEIGHT * by_dice


@torch.no_grad()
def match(logits: list[Tensor], masks: list[Tensor], segments: Segments, points: int) -> Pairs:
    """Assign predictions to segments one to one at the lowest total cost, for each of S layers.

    Each layer and each image is compared at its own random points. If an image has more segments than there are
    queries, the most expensive ones stay unmatched.

    Args:
        logits: S times (B, Q, classes + 1).
        masks: S times (B, Q, h, w), logits.
        segments: targets.
        points: number of points per image.
    """
    # Products over thousands of points and small differences of large sums overflow or lose accuracy in half precision.
    with without_autocast(segments.labels.device):
        tables = [_table(at_least_float32(a), at_least_float32(b), segments, points) for a, b in zip(logits, masks)]
    # One copy from the device for all of them. Non-finite costs are replaced so that an assignment always exists: the
    # loss will show them.
    table = torch.stack(tables).nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9).cpu()
    pairs = []
    for of_layer in table:
        for image, (cost, count) in enumerate(zip(of_layer, segments.counts, strict=True)):
            queries, places = linear_sum_assignment(cost[:, :count].numpy())
            pairs += [(image, int(q), int(m)) for q, m in zip(queries, places, strict=True)]
    found = torch.tensor(pairs, dtype=torch.int64).view(len(logits), -1, 3).to(segments.labels.device)
    image_of, query, place = found.unbind(-1)
    return Pairs(image_of[0], query, segments.labels[image_of, place])


def _table(logits: Tensor, masks: Tensor, segments: Segments, points: int) -> Tensor:
    """Return the costs (B, Q, M) of one layer."""
    at = random_points(len(masks), points, masks)
    image = torch.arange(len(masks), device=masks.device)[:, None]
    targets = sample_segments(segments.pixels, image, segments.labels, at[:, None])
    return costs(logits, sample(masks, at), segments.labels, targets)


def set_losses(logits: list[Tensor], masks: list[Tensor], segments: Segments, points: int) -> dict[str, Tensor]:
    """Return the weighted losses ``class``, ``mask`` and ``dice``, summed over S layers, each matched separately.

    The losses of transformers divide by the number of masks of all processes once too often, and synchronise with the
    device for every layer and image.

    Args:
        logits: S times (B, Q, classes + 1); the last class is "no object".
        masks: S times (B, Q, h, w), logits.
        segments: targets.
        points: number of points at which masks are compared.
    """
    pairs = match(logits, masks, segments, points)
    layers = []
    for of_classes, of_masks, query, label in zip(logits, masks, pairs.query, pairs.label, strict=True):
        wanted = torch.full(of_classes.shape[:2], of_classes.shape[2] - 1, device=label.device)
        wanted[pairs.image, query] = label
        paired = at_least_float32(of_masks[pairs.image, query])
        by_class = class_loss(at_least_float32(of_classes), wanted)
        layers.append(torch.stack((by_class, *mask_losses(paired, pairs.image, label, segments, points))))
    by_class, by_mask, by_dice = torch.stack(layers).sum(0)
    count = mean_count(len(pairs.image), by_class.device)
    return {
        "class": CLASS_WEIGHT * by_class,
        "mask": MASK_WEIGHT / count * by_mask,
        "dice": DICE_WEIGHT / count * by_dice,
    }


def class_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the class-weighted mean cross entropy of logits (B, Q, classes + 1) for target classes (B, Q)."""
    weights = torch.ones_like(logits[0, 0])
    weights[-1] = NO_OBJECT_WEIGHT
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights)


def mask_losses(masks: Tensor, image: Tensor, label: Tensor, segments: Segments, points: int) -> tuple[Tensor, Tensor]:
    """Return the summed cross entropy and dice loss of K mask logits (K, h, w) for their segments.

    Args:
        masks: logits of the matched predictions.
        image, label: (K,), image and class of each matched segment.
        segments: targets.
        points: number of points at which masks are compared.
    """
    at = uncertain_points(masks, points)
    found, targets = sample(masks[:, None], at)[:, 0], sample_segments(segments.pixels, image, label, at)
    entropy = F.binary_cross_entropy_with_logits(found, targets, reduction="none").mean(1).sum()
    probabilities = found.sigmoid()
    shared, sums = (probabilities * targets).sum(1), probabilities.sum(1) + targets.sum(1)
    return entropy, (1 - (2 * shared + 1) / (sums + 1)).sum()
