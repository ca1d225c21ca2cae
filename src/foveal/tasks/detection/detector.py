"""What all detectors here have in common: torchvision's convention, checked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.model import DenseModel
from foveal.tasks.detection.images import ImageList, Images, sizes_of

Target = dict[str, Tensor]


class Detector(DenseModel):
    """Finds objects in images, in torchvision's convention.

    In training it takes images and targets and returns a dict of losses, whose sum is to be minimised; in evaluation
    it takes images and returns a dict for each: ``boxes`` (N, 4) float in the image's pixels as (x1, y1, x2, y2),
    ``labels`` (N,) int64 from 0 to ``num_classes - 1``, ``scores`` (N,) between 0 and 1, best first; and
    of Mask R-CNN ``masks`` (N, 1, H, W), probabilities between 0 and 1.

    Images are float tensors (3, H, W) in [0, 1], of any sizes, also different ones in a batch. A target has ``boxes``
    and ``labels`` as above (N may be 0) and for Mask R-CNN ``masks`` (N, H, W) of 0 and 1. There is no class for the
    background: ``num_classes`` counts those of objects alone.

    A subclass says what its losses and its detections are.
    """

    called = "detector"

    needs_masks = False
    """Whether targets must have masks."""

    def __init__(self, backbone: DenseBackbone, num_classes: int, images: Images) -> None:
        super().__init__(backbone, num_classes)
        self.images = images

    def losses(self, batch: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """The losses of a batch of normalised, padded images; boxes of targets are in its pixels."""
        raise NotImplementedError

    def detections(self, batch: ImageList) -> list[dict[str, Tensor]]:
        """What is found, in the batch's pixels; masks (N, 1, M, M) within their boxes."""
        raise NotImplementedError

    def dense_pass(self, images: Tensor) -> Any:
        """See ``DenseModel``.

        A detector whose detections' work depends on what it finds says here what is counted.
        """
        return self.detections(ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)))

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Losses in training, detections in evaluation; see the class.

        Raises:
            ValueError: images or targets that break the convention; the sentence says which and how.
        """
        _check_images(images)
        if not self.training:
            batch, _ = self.images(list(images))
            return self.images.postprocess(self.detections(batch), batch.image_sizes, sizes_of(images))
        if targets is None:
            raise ValueError("a detector in training needs targets; call eval() to detect")
        check_targets(images, targets, self.num_classes, self.needs_masks)
        batch, moved = self.images(list(images), list(targets))
        return self.losses(batch, moved)


def _check_images(images: Sequence[Tensor]) -> None:
    if isinstance(images, Tensor) or not images:
        raise ValueError("a detector takes a list of images (3, height, width), at least one")
    for number, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or not image.is_floating_point():
            raise ValueError(
                f"image {number} must be a float tensor (3, height, width) in [0, 1], not {image.dtype} "
                f"{tuple(image.shape)}"
            )


def check_targets(images: Sequence[Tensor], targets: Sequence[Target], num_classes: int, masks: bool) -> None:
    """Raise ValueError for the first target that breaks the convention."""
    if len(targets) != len(images):
        raise ValueError(f"{len(images)} images need as many targets, not {len(targets)}")
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        problem = _problem(image, target, num_classes, masks)
        if problem:
            raise ValueError(f"target {number}: {problem}")


def _problem(image: Tensor, target: Target, num_classes: int, masks: bool) -> str | None:
    absent = [name for name in ("boxes", "labels", *(["masks"] if masks else [])) if name not in target]
    if absent:
        return f"{' and '.join(absent)} missing"
    boxes, labels = target["boxes"], target["labels"]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        return f"boxes must be (N, 4) and labels (N,), not {tuple(boxes.shape)} and {tuple(labels.shape)}"
    if labels.dtype != torch.int64:
        return f"labels must be int64, not {labels.dtype}"
    if masks and target["masks"].shape != (len(boxes), *image.shape[-2:]):
        return f"masks must be {(len(boxes), *image.shape[-2:])}, not {tuple(target['masks'].shape)}"
    if not len(boxes):
        return None
    if not (boxes[:, 2:] > boxes[:, :2]).all() or not torch.isfinite(boxes).all():
        return "boxes must be (x1, y1, x2, y2) with x2 above x1 and y2 above y1"
    if labels.min() < 0 or labels.max() >= num_classes:
        return f"labels must be from 0 to {num_classes - 1}, not {int(labels.min())} to {int(labels.max())}"
    return None
