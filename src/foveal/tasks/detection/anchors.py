"""Anchors: the boxes that a dense head moves and judges."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AnchorGenerator(nn.Module):
    """Boxes of several sizes and shapes around the corner of every cell, the same in every image.

    As in MMDetection, and unlike torchvision's: sides are not rounded, and strides are given, where torchvision divides
    the image's size by the map's, which is another number where an odd map was halved.

    Args:
        strides: pixels between neighbouring anchors, one a level.
        scales: sides of the square anchor, in strides.
        ratios: height over width. An anchor of ratio r and scale s has the area of the square one.
    """

    cells: Tensor

    def __init__(self, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (0.5, 1, 2)) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_cell = len(scales) * len(ratios)
        cells = torch.tensor([[_centred(stride * s, r) for r in ratios for s in scales] for stride in strides])
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Of every level (h * w * per_cell, 4) boxes (x1, y1, x2, y2) in pixels: row by row, cell by cell."""
        return [
            _shifted(cells, m.shape[-2], m.shape[-1], stride)
            for m, stride, cells in zip(maps, self.strides, self.cells, strict=True)
        ]

    def inside(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]], divisor: int) -> Tensor:
        """(images, anchors) of all levels: whether an anchor's cell begins in its image as it would be padded alone.

        What is padded only because another image of the batch is larger is neither object nor background, and shows
        nothing: so an image's answer does not depend on which ones it is seen with.

        Args:
            maps: the levels' maps.
            sizes: (height, width) of the images without padding.
            divisor: what the sides of padded images are multiples of.
        """
        return torch.stack(
            [self._inside(maps, _padded(height, divisor), _padded(width, divisor)) for height, width in sizes]
        )

    def _inside(self, maps: Sequence[Tensor], height: int, width: int) -> Tensor:
        levels = []
        for m, stride in zip(maps, self.strides, strict=True):
            rows, columns = (torch.arange(n, device=m.device) * stride for n in m.shape[-2:])
            cells = (rows < height)[:, None] & (columns < width)
            levels.append(cells.flatten().repeat_interleave(self.per_cell))
        return torch.cat(levels)


def _centred(side: float, ratio: float) -> list[float]:
    width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
    return [-width / 2, -height / 2, width / 2, height / 2]


def _shifted(cells: Tensor, height: int, width: int, stride: int) -> Tensor:
    y, x = (torch.arange(n, device=cells.device, dtype=cells.dtype) * stride for n in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (corners + cells).reshape(-1, 4)


def _padded(side: int, divisor: int) -> int:
    return math.ceil(side / divisor) * divisor
