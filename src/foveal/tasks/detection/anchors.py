"""Anchors, the assignment of anchors and proposals to objects, and their sampling for a loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

from foveal.types import Size

BACKGROUND, IGNORED = -1, -2


class AnchorGenerator(nn.Module):
    """Anchors of several sizes and shapes around the corner of every cell, the same in every image.

    As in MMDetection, and unlike torchvision's: sides are not rounded, and strides are given. torchvision divides the
    image's size by the map's, which gives a different stride if a map of odd size was halved.

    Args:
        strides: pixels between neighbouring anchors, one per level.
        scales: sides of the square anchor, in strides.
        ratios: height over width. All anchors of a scale have the same area.
    """

    cells: Tensor

    def __init__(self, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (0.5, 1, 2)) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_cell = len(scales) * len(ratios)
        cells = torch.tensor([[_centred(stride * s, r) for r in ratios for s in scales] for stride in strides])
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return every level's anchors (h * w * per_cell, 4), (x1, y1, x2, y2) in pixels, in row-major order."""
        return [
            _shifted(cells, m.shape[-2], m.shape[-1], stride)
            for m, stride, cells in zip(maps, self.strides, self.cells, strict=True)
        ]

    def inside(self, maps: Sequence[Tensor], sizes: Sequence[Size], divisor: int) -> Tensor:
        """Return (images, anchors) bool: whether an anchor's cell begins in its image, as it would be padded alone.

        Anchors in the padding that is only there because another image of the batch is larger are neither objects
        nor background and detect nothing, so that an image's detections do not depend on the rest of its batch.

        Args:
            maps: maps of all levels.
            sizes: (height, width) of the images without padding.
            divisor: padded sides are multiples of it.
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
    # Counts, not -1: a tracer knows that they are those of the logits.
    corners = torch.stack([x, y, x, y], dim=-1).reshape(height * width, 1, 4)
    return (corners + cells).reshape(height * width * len(cells), 4)


def _padded(side: int, divisor: int) -> int:
    return math.ceil(side / divisor) * divisor


@dataclass(frozen=True)
class Matcher:
    """Assign candidates (anchors or proposals) to objects by intersection over union, as MMDetection does.

    A candidate is assigned to the object that it overlaps most if their overlap is at least ``positive``; it is
    background if that overlap is below ``negative``, and ignored in between. Then every object takes the candidates
    that overlap it most (all of them if several are equal), whatever they were assigned to before; if two objects take
    the same candidate, the later one has it. torchvision's matcher assigns such a candidate to the object that it
    overlaps most itself, and has no ``minimum``.

    Attributes:
        positive, negative: the two thresholds.
        minimum: overlap from which an object takes its best candidates.
    """

    positive: float
    negative: float
    minimum: float

    def __call__(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """Return the object's index, BACKGROUND or IGNORED for each candidate.

        Args:
            boxes: (objects, 4), possibly none.
            candidates: (candidates, 4), possibly none.
        """
        if not len(boxes) or not len(candidates):
            return torch.full((len(candidates),), BACKGROUND, dtype=torch.int64, device=candidates.device)
        overlap = box_iou(boxes, candidates)
        best, match = overlap.max(0)
        match = match.masked_fill(best < self.positive, IGNORED).masked_fill(best < self.negative, BACKGROUND)
        most = overlap.amax(1, keepdim=True)
        takes = (overlap == most) & (most >= self.minimum) & (most > 0)
        number = torch.arange(len(boxes), device=match.device)[:, None]
        taker = torch.where(takes, number, BACKGROUND).amax(0)
        return torch.where(taker >= 0, taker, match)


class Sampler:
    """Sample ``count`` candidates at random: up to ``fraction`` of them with an object, the rest background.

    Uses PyTorch's global generator.
    """

    def __init__(self, count: int, fraction: float) -> None:
        self._sampler = BalancedPositiveNegativeSampler(count, fraction)

    def __call__(self, match: Tensor) -> tuple[Tensor, Tensor]:
        """Return indices of the sampled candidates with an object, and without, from a ``Matcher``'s result."""
        positive, negative = self._sampler([match + 1])  # there 0 is background, and negative values are ignored
        return positive[0].nonzero()[:, 0], negative[0].nonzero()[:, 0]
