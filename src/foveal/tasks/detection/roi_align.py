"""Features and masks of boxes: RoIAlign on a pyramid, and masks between an image's pixels and a mask head's cells.

Everything is sampled with half-pixel alignment.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from foveal.ops.numerics import without_autocast
from foveal.tasks.detection.boxes import full_precision
from foveal.types import Size


class RoIAlign:
    """RoIAlign (Mask R-CNN, arXiv:1703.06870, section 3) on several maps.

    A box of side s = sqrt(w * h) is taken from level floor(log2(s / finest)), clamped to the existing levels (FPN,
    arXiv:1612.03144, equation 1). A cell has as many samples as it covers positions of the map, rounded up.

    Args:
        size: cells in each direction.
        strides: of the maps, from fine to coarse, each twice the one before.
        finest: boxes with a side of less than twice this many pixels are taken from the first map.
    """

    def __init__(self, size: int, strides: Sequence[int], finest: float) -> None:
        self.size, self.strides, self.finest = size, tuple(strides), finest

    def levels(self, boxes: Tensor) -> Tensor:
        """Return the level of each of ``boxes`` (N, 4)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        level = torch.floor(torch.log2(side / self.finest + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def __call__(self, maps: Sequence[Tensor], boxes: list[Tensor]) -> Tensor:
        """Return features (N, channels, size, size) of all images' boxes, image after image.

        Args:
            maps: (B, channels, h, w), at least one per stride.
            boxes: (n, 4) in pixels, one tensor per image.
        """
        number = torch.repeat_interleave(torch.tensor([len(b) for b in boxes])).to(boxes[0])
        regions = torch.cat([number[:, None], torch.cat(boxes)], dim=1)
        levels = self.levels(regions[:, 1:])
        order, found = [], []
        for level, (m, stride) in enumerate(zip(maps, self.strides, strict=False)):
            here = (levels == level).nonzero()[:, 0]
            order.append(here)
            exact = full_precision(m)  # coordinates in half precision would be off by pixels
            found.append(
                roi_align(exact, regions[here].to(exact), self.size, 1 / stride, sampling_ratio=0, aligned=True)
            )
        return torch.cat(found)[torch.cat(order).argsort()].to(maps[0].dtype)


def crop_masks(masks: Tensor, which: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return the targets of a mask head, (N, size, size) float of 0 and 1.

    Args:
        masks: (objects, H, W) of 0 and non-zero values, such as 1 or 255.
        which: (N,), the object of each box.
        boxes: (N, 4) in pixels of the masks, the region of each target.
        size: cells in each direction. A cell is 1 if at least half of it is.
    """
    regions = torch.cat([which[:, None].to(boxes), boxes], dim=1)
    share = roi_align((masks[:, None] != 0).to(boxes), regions, size, sampling_ratio=0, aligned=True)[:, 0]
    return (share >= 0.5).to(boxes)


def paste_masks(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Paste masks (N, 1, M, M) into their boxes (N, 4) in an image: (N, 1, H, W), 0 outside.

    Bilinear between the cells' centres; unlike in torchvision, boxes are not rounded to pixels. Written as two matrix
    products, which are also fast on a CPU.
    """
    height, width = size
    rows = _weights(boxes[:, 1], boxes[:, 3], masks.shape[-2], height)
    columns = _weights(boxes[:, 0], boxes[:, 2], masks.shape[-1], width)
    with without_autocast(boxes.device):  # half precision would shift edges
        return (rows @ masks[:, 0].to(rows) @ columns.mT)[:, None]


def _weights(low: Tensor, high: Tensor, cells: int, pixels: int) -> Tensor:
    """Return each cell's weight in each pixel, (N, pixels, cells); cells divide ``low`` to ``high`` (N,) evenly."""
    centres = torch.arange(pixels, device=low.device, dtype=low.dtype) + 0.5
    position = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None] * cells - 0.5
    return (1 - (position[..., None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)
