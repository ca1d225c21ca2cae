"""Masks between an image's pixels and the squares that a mask head learns, with half-pixel alignment on both ways."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from foveal.ops.numerics import without_autocast


def crop_masks(masks: Tensor, which: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The targets of a mask head: (N, size, size) of 0 and 1, float.

    Args:
        masks: (objects, H, W) of 0 and 1, or any other number for 1, as in files with 0 and 255.
        which: (N,), the object of each box.
        boxes: (N, 4) in pixels of the masks, what each square covers.
        size: cells in each direction. A cell is 1 where at least half of it is.
    """
    regions = torch.cat([which[:, None].to(boxes), boxes], dim=1)
    share = roi_align((masks[:, None] != 0).to(boxes), regions, size, sampling_ratio=0, aligned=True)[:, 0]
    return (share >= 0.5).to(boxes)


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, 1, M, M) laid over their boxes (N, 4) in an image: (N, 1, H, W), 0 outside.

    Bilinear between the cells' centres; unlike torchvision's, boxes are not rounded to pixels. Written as two products
    with matrices, which is fast on a CPU, too.
    """
    height, width = size
    rows = _weights(boxes[:, 1], boxes[:, 3], masks.shape[-2], height)
    columns = _weights(boxes[:, 0], boxes[:, 2], masks.shape[-1], width)
    with without_autocast(boxes.device):  # half types would move edges
        return (rows @ masks[:, 0].to(rows) @ columns.mT)[:, None]


def _weights(low: Tensor, high: Tensor, cells: int, pixels: int) -> Tensor:
    """(N, pixels, cells): how much of each cell a pixel takes, cells spread evenly from ``low`` to ``high`` (N,)."""
    centres = torch.arange(pixels, device=low.device, dtype=low.dtype) + 0.5
    place = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None] * cells - 0.5
    return (1 - (place[..., None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)
