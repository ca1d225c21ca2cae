"""The base class of all detectors: torchvision's convention, checked, and the preprocessing of its images."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from foveal.tasks.dense.create import find_head
from foveal.tasks.dense.model import DenseBackbone, DenseModel
from foveal.tasks.detection.roi_align import paste_masks
from foveal.types import Size

SHORT, LONG = 800, 1333  # pixels, in the published evaluations

#: Module of each detector, imported when one is created: DINO needs transformers.
BUILDERS = {
    "mask_rcnn": "foveal.tasks.detection.mask_rcnn",
    "retinanet": "foveal.tasks.detection.retinanet",
    "dino": "foveal.tasks.detection.dino",
}

__all__ = ["Detector", "ImageList", "Images", "Target", "check_targets"]

Target = dict[str, Tensor]


class Images(GeneralizedRCNNTransform):
    """Preprocessing: normalises images, resizes them in evaluation, and pads them with zeros to one common size.

    In training, images keep their size, which augmentation has chosen. In evaluation the short side becomes ``short``
    pixels, or less if the long side would exceed ``long``. Padded sides are multiples of ``divisor``.
    """

    def __init__(self, short: int = 800, long: int = 1333, divisor: int = 32) -> None:
        mean, std = list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
        super().__init__(short, long, mean, std, size_divisible=divisor, _skip_resize=True)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """Return the image resized for evaluation; in training, image and target unchanged.

        Sides are rounded to the nearest pixel as in MMDetection (torchvision rounds down). Interpolation is bilinear
        with antialiasing as in training, which makes no difference to enlarged images.
        """
        if self.training:
            return image, target
        sides = image.shape[-2:]
        scale = min(self.min_size[-1] / min(sides), self.max_size / max(sides))
        size = [max(int(side * scale + 0.5), 1) for side in sides]
        return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0], target

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[Size], original_image_sizes: list[Size]
    ) -> list[dict[str, Tensor]]:
        """Return boxes and masks in the pixels of the original images."""
        for found, resized, original in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], list(resized), list(original))
            if "masks" in found:
                found["masks"] = paste_masks(found["masks"], found["boxes"], original)
        return result


class Detector(DenseModel):
    """Base class of detectors, which follow torchvision's convention.

    In training, a detector takes images and targets and returns a dict of losses whose sum is minimised. In evaluation
    it takes images and returns a dict for each: ``boxes`` (N, 4) float in the image's pixels as (x1, y1, x2, y2),
    ``labels`` (N,) int64 from 0 to ``num_classes - 1``, ``scores`` (N,) between 0 and 1, best first; and for Mask
    R-CNN ``masks`` (N, 1, H, W), probabilities between 0 and 1.

    Images are float tensors (3, H, W) in [0, 1] of any size; sizes may differ within a batch. A target has ``boxes``
    and ``labels`` as above (N may be 0) and for Mask R-CNN ``masks`` (N, H, W) of 0 and 1. There is no background
    class: ``num_classes`` counts object classes only.

    Subclasses implement ``losses`` and ``detections``.
    """

    called = "detector"

    needs_masks = False
    """Whether targets must have masks."""

    def __init__(self, backbone: DenseBackbone, num_classes: int, images: Images) -> None:
        super().__init__(backbone, num_classes)
        self.images = images

    def losses(self, batch: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of a batch of normalised, padded images; targets' boxes are in its pixels."""
        raise NotImplementedError

    def detections(self, batch: ImageList) -> list[dict[str, Tensor]]:
        """Return each image's detections in the batch's pixels; masks (N, 1, M, M) within their boxes."""
        raise NotImplementedError

    def dense_pass(self, images: Tensor) -> Any:
        """Run all layers once; see ``DenseModel``. Overridden if the work depends on what is detected."""
        return self.detections(ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)))

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Return losses in training, detections in evaluation; see the class.

        Raises:
            ValueError: images or targets break the convention; the message says which and how.
        """
        _check_images(images)
        if not self.training:
            batch, _ = self.images(list(images))
            sizes = [(image.shape[-2], image.shape[-1]) for image in images]
            return self.images.postprocess(self.detections(batch), batch.image_sizes, sizes)
        if targets is None:
            raise ValueError("a detector in training needs targets; call eval() to detect")
        check_targets(images, targets, self.num_classes, self.needs_masks)
        batch, resized = self.images(list(images), list(targets))
        return self.losses(batch, resized)


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
    missing = [name for name in ("boxes", "labels", *(["masks"] if masks else [])) if name not in target]
    if missing:
        return f"{' and '.join(missing)} missing"
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


def create_detector(
    name: str,
    backbone: str = "transnext_tiny",
    num_classes: int = 80,
    *,
    short: int = SHORT,
    long: int = LONG,
    **options: Any,
) -> Detector:
    """Create a detector as published; see ``Detector`` for inputs and outputs.

    Args:
        name: "mask_rcnn", "retinanet" or "dino".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: object classes, without the background.
        short, long: sides that images are resized to in evaluation, in pixels; see ``Images``.
        options: ``pretrained_backbone`` (start from the released weights of the backbone), ``drop_path``,
            ``frozen_stages``, ``position_bias``, ``reference_size`` and ``backbone_args``, see ``DenseBackbone``; and
            the ``Settings`` of the head, such as ``num_levels=4`` or 5 for DINO.

    Raises:
        FovealError: no such detector or backbone, or options that it does not have.
    """
    build, make_backbone = find_head("detector", name, BUILDERS, backbone, num_classes, options)
    return build(make_backbone, num_classes, Images(short, long))
