"""Box encoding, and the selection of detections from scored boxes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder as TorchvisionBoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image

from foveal.types import Size


class BoxCoder(TorchvisionBoxCoder):
    """Encode boxes relative to reference boxes in units of ``stds`` (Faster R-CNN, arXiv:1506.01497, equation 2).

    torchvision's coder, except that like MMDetection's it also bounds how much a box shrinks: by at most 1000 / 16,
    the bound on its growth.
    """

    def __init__(self, stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__(weights=tuple(1 / std for std in stds), bbox_xform_clip=math.log(1000 / 16))

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Decode (N, 4 * k) codes relative to ``boxes`` (N, 4) to boxes of the same shape."""
        bounds = [-math.inf, -math.inf, *(-self.bbox_xform_clip * weight for weight in self.weights[2:])]
        lowest = rel_codes.new_tensor(bounds).repeat(rel_codes.shape[1] // 4)
        return super().decode_single(torch.maximum(rel_codes, lowest), boxes)


@dataclass(frozen=True)
class SelectionSettings:
    """Options of detectors that select boxes by non-maximum suppression, by default as published."""

    score: float = 0.05
    """Detections have a score above this."""
    overlap: float = 0.5
    """Detections of a class overlap by at most this intersection over union."""
    most: int = 100
    """Detections kept per image."""


class BoxSelection(SelectionSettings):
    """Select an image's detections by non-maximum suppression per class."""

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: Size) -> dict[str, Tensor]:
        """Return ``boxes``, ``scores`` and ``labels`` of an image's detections, best first.

        Args:
            boxes: (N, 4); clipped to the image here, and dropped if nothing is left.
            scores, labels: (N,), scores already above the threshold.
            size: (height, width) of the image.
        """
        boxes = clip_boxes_to_image(boxes, size)
        valid = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero()[:, 0]
        best = batched_nms(boxes[valid], scores[valid], labels[valid], self.overlap)[: self.most]
        kept = valid[best]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32 or wider: boxes in half precision would be off by pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
