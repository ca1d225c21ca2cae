"""Base classes of the segmenters: images in, class scores out, losses in training."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

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


class PixelSegmenter(Segmenter):
    """A head that gives logits at a stride of the image; they are resized to the image bilinearly.

    Its scores are these logits. In training ``loss_decode`` is their ``pixel_cross_entropy``. See ``Segmenter``.
    """

    class_layers: tuple[str, ...] = ("decode_head.classifier.",)

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w), from the backbone's maps."""
        raise NotImplementedError

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        return {"loss_decode": pixel_cross_entropy(self.logits(maps), labels)}

    def scores(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        return resize(self.logits(maps), size)

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch norms' counts of batches, which nothing reads here, are ours where a file has none."""
        counts = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.endswith(".num_batches_tracked") and not name.startswith("backbone.")
        }
        return {**counts, **state}


def resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, C, h, w) resized bilinearly to (B, C, *size), between centres of pixels; in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, C, h, w), resized to labels (B, H, W): the sum over all pixels that have a class,
    divided by the number of *all* pixels.

    So MMSegmentation does it unless told otherwise, and the published segmenters' settings do not. An image counts for
    as much as it has pixels with a class, and a batch without any gives 0 instead of NaN.
    """
    resized = resize(logits, (labels.shape[-2], labels.shape[-1]))
    return F.cross_entropy(resized, labels, ignore_index=IGNORED, reduction="none").mean()


def init_weights(head: nn.Module) -> None:
    """First weights of a head: convolutions for ReLUs (He et al., arXiv:1502.01852, by what comes out), its
    ``classifier`` from a normal distribution of 0.01, biases 0."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(head.get_submodule("classifier").weight, std=0.01)  # type: ignore[arg-type]
