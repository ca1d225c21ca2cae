"""The objects of a batch in one tensor, as DINO counts: boxes relative to their image, as centre and size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from foveal.tasks.detection.detector import Target


@dataclass(frozen=True)
class Objects:
    """Objects of B images, each filled up to the M of the fullest one.

    Attributes:
        labels: (B, M) int64, 0 where filled up.
        boxes: (B, M, 4) float as (cx, cy, w, h) relative to the image, 0 where filled up.
        counts: how many objects each image has.
    """

    labels: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    @property
    def most(self) -> int:
        """M."""
        return self.labels.shape[1]

    @property
    def present(self) -> Tensor:
        """(B, M) bool, False where filled up."""
        numbers = torch.arange(self.most, device=self.labels.device)
        return numbers < torch.tensor(self.counts, device=self.labels.device)[:, None]

    @classmethod
    def of(cls, targets: Sequence[Target], image_sizes: Sequence[tuple[int, int]]) -> "Objects":
        """Of targets whose boxes are (x1, y1, x2, y2) in pixels of images of (height, width) pixels.

        Boxes and labels may be of any dtype: an empty list of labels becomes floats in a careless moment.
        """
        boxes = []
        for target, (height, width) in zip(targets, image_sizes, strict=True):
            corners = target["boxes"].float()
            relative = corners / corners.new_tensor([width, height, width, height])
            boxes.append(box_convert(relative, "xyxy", "cxcywh"))
        labels = pad_sequence([target["labels"].long() for target in targets], batch_first=True)
        return cls(labels, pad_sequence(boxes, batch_first=True), tuple(len(b) for b in boxes))


def to_corners(boxes: Tensor) -> Tensor:
    """(x1, y1, x2, y2) of boxes (..., 4) as (cx, cy, w, h)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)
