"""What all segmenters here have in common: images in, scores of classes out, losses in training."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.model import DenseModel

IGNORED = 255
"""The label of pixels that are neither learnt from nor counted."""
SMALLEST = 32
"""Sides of the smallest image that backbones see: smaller ones are padded with zeros at the right and below."""


class Segmenter(DenseModel):
    """Tells the class of every pixel.

    In evaluation it takes images (B, 3, H, W), float in [0, 1], of any height and width, and returns scores
    (B, num_classes, H, W), of which the largest tells a pixel's class; ``probabilities`` makes such scores ready to be
    averaged. In training it takes images and their labels (B, H, W), int64 from 0 to ``num_classes - 1`` or
    ``IGNORED``, and returns a dict of losses, whose sum is to be minimised. Images are normalised inside.

    A subclass says what its losses and its scores are.
    """

    called = "segmenter"
    size_divisor: ClassVar[int] = 1
    """In evaluation images are padded to multiples of it, with zeros at the right and below."""
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        for name, values in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The losses of a batch: from the backbone's maps and labels (B, H, W)."""
        raise NotImplementedError

    def scores(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Scores (B, num_classes, *size), from the backbone's maps of images of that height and width."""
        raise NotImplementedError

    def probabilities(self, scores: Tensor) -> Tensor:
        """Scores (B, num_classes, H, W) as what is averaged over scales and mirror images: here their softmax."""
        return scores.softmax(1)

    def dense_pass(self, images: Tensor) -> Any:
        """See ``DenseModel``; an auxiliary head, which only training has, is not in it."""
        return self.scores(self.backbone(images), (images.shape[-2], images.shape[-1]))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Any:
        """Losses in training, scores in evaluation; see the class.

        Raises:
            ValueError: images or labels that break the convention; the sentence says which and how.
        """
        _check_images(images)
        height, width = images.shape[-2:]
        below, right = self._missing(height), self._missing(width)
        padded = F.pad((images - self.mean) / self.std, (0, right, 0, below))
        if not self.training:
            return self.scores(self.backbone(padded), (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
        if labels is None:
            raise ValueError("a segmenter in training needs labels; call eval() to segment")
        _check_labels(images, labels)
        return self.losses(self.backbone(padded), F.pad(labels, (0, right, 0, below), value=IGNORED))

    def _missing(self, side: int) -> int:
        """Pixels that a side is padded by."""
        divisor = 1 if self.training else self.size_divisor
        return math.ceil(max(side, SMALLEST) / divisor) * divisor - side


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel() or not images.is_floating_point():
        raise ValueError(
            f"images must be a float tensor (batch, 3, height, width) in [0, 1], not {images.dtype} "
            f"{tuple(images.shape)}"
        )


def _check_labels(images: Tensor, labels: Tensor) -> None:
    wanted = (len(images), *images.shape[-2:])
    if labels.shape != wanted or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 {wanted}, not {labels.dtype} {tuple(labels.shape)}")
