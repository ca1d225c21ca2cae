"""What predictions that were paired with segments cost: cross entropy of classes, and of masks with their dice."""

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.tasks.dense.losses import at_least_float32, mean_count
from foveal.tasks.segmentation.mask2former.matching import CLASS_WEIGHT, DICE_WEIGHT, MASK_WEIGHT, match
from foveal.tasks.segmentation.mask2former.points import draw_uncertain, sample
from foveal.tasks.segmentation.mask2former.segments import Segments, inside

NO_OBJECT_WEIGHT = 0.1


def set_losses(logits: list[Tensor], masks: list[Tensor], segments: Segments, points: int) -> dict[str, Tensor]:
    """The weighted losses ``class``, ``mask`` and ``dice``, sums over S layers, each matched by itself.

    transformers' own divide by the number of masks of all processes once too often, and wait for the device in every
    layer and image.

    Args:
        logits: S times (B, Q, classes + 1), the last for no object.
        masks: S times (B, Q, h, w), logits.
        segments: what is there.
        points: at how many points masks are compared.
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
    """The mean cross entropy of logits (B, Q, classes + 1) for ``wanted`` (B, Q), weighed by what is wanted."""
    weights = torch.ones_like(logits[0, 0])
    weights[-1] = NO_OBJECT_WEIGHT
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights)


def mask_losses(masks: Tensor, image: Tensor, label: Tensor, segments: Segments, points: int) -> tuple[Tensor, Tensor]:
    """Sums of the cross entropy and of the dice loss of K masks (K, h, w), logits, for their segments.

    Args:
        image, label: (K,), the image and the class of each one's segment.
    """
    at = draw_uncertain(masks, points)
    found, targets = sample(masks[:, None], at)[:, 0], inside(segments.pixels, image, label, at)
    entropy = F.binary_cross_entropy_with_logits(found, targets, reduction="none").mean(1).sum()
    probabilities = found.sigmoid()
    shared, sums = (probabilities * targets).sum(1), probabilities.sum(1) + targets.sum(1)
    return entropy, (1 - (2 * shared + 1) / (sums + 1)).sum()
