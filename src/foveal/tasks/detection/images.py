"""From a list of images to one batch, and from its boxes and masks back to each image."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from foveal.tasks.detection.masks import paste_masks

Size = tuple[int, int]

__all__ = ["ImageList", "Images"]


class Images(GeneralizedRCNNTransform):
    """Normalises, in evaluation resizes, and pads images with zeros to one size that ``divisor`` divides.

    Images that are trained on keep the size they come in: augmentation has chosen it. In evaluation the short side
    becomes ``short`` pixels, or fewer where the long one would exceed ``long``.
    """

    def __init__(self, short: int = 800, long: int = 1333, divisor: int = 32) -> None:
        mean, std = list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
        super().__init__(short, long, mean, std, size_divisible=divisor, _skip_resize=True)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """An image of evaluation in its new size, sides rounded to the nearest as MMDetection does (torchvision rounds
        down); one of training as it is, with its target.

        Bilinear, with antialiasing as in training: enlarged images are the same with or without.
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
        """Boxes and masks in the images' own pixels."""
        for found, seen, own in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], list(seen), list(own))
            if "masks" in found:
                found["masks"] = paste_masks(found["masks"], found["boxes"], own)
        return result


def sizes_of(images: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each image."""
    return [(image.shape[-2], image.shape[-1]) for image in images]
