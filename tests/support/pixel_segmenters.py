"""Small UPerNet and Semantic FPN models and their inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.tasks.segmentation import IGNORED, Segmenter, create_segmenter
from support.nets import lively

SMALL = {
    "upernet": dict(channels=8, auxiliary_channels=8),
    "semantic_fpn": dict(pyramid_channels=8, channels=8),
}
FAMILY = {"upernet": "transnext_atto", "semantic_fpn": "transxnet_atto"}


def small_segmenter(name: str, backbone: str | None = None, num_classes: int = 5, **options) -> Segmenter:
    """A segmenter on the smallest backbone of a family with one block per stage, in training mode."""
    args = dict(depths=(1, 1, 1, 1))
    settings = dict(reference_size=64, backbone_args=args)
    backbone = backbone or FAMILY[name]
    segmenter = create_segmenter(name, backbone, num_classes, **{**settings, **SMALL[name], **options})
    return lively(segmenter)


def batch(height: int, width: int, images: int = 2, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images in [0, 1], and labels with an ignored first row."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, height, width), generator=draw)
    labels[:, 0] = IGNORED
    return torch.rand(images, 3, height, width, generator=draw), labels
