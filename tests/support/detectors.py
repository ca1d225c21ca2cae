"""Detectors small enough to test with, and what they are given."""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.tasks.detection import Detector, create_detector

SMALL = {
    "mask_rcnn": dict(channels=8, hidden=16, mask_convs=1, anchor_scale=4, proposals=20, box_samples=16, most=10),
    "retinanet": dict(channels=8, convs=1, most=10),
}


def small_detector(name: str, backbone: str = "transxnet_atto", num_classes: int = 3, **options) -> Detector:
    """A detector on the smallest backbone of a family, one block a stage; in training mode."""
    args = dict(depths=(1, 1, 1, 1))
    settings = dict(reference_size=64, backbone_args=args, short=64, long=96)
    return create_detector(name, backbone, num_classes, **{**settings, **SMALL[name], **options})


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """An image in [0, 1]."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def target(boxes: list[list[float]], labels: list[int], size: tuple[int, int]) -> dict[str, Tensor]:
    """Objects that fill their boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
    }
