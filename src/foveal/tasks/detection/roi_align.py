"""Features of boxes, each from the pyramid's level that suits its size."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from foveal.tasks.detection.selection import full_precision


class RoIAlign:
    """RoIAlign (Mask R-CNN, arXiv:1703.06870, section 3) with half-pixel alignment, on several maps.

    A box of side s = sqrt(w * h) is taken from level floor(log2(s / finest)), within what there is (FPN,
    arXiv:1612.03144, equation 1). A cell has as many samples as it covers positions of the map, rounded up.

    Args:
        size: cells in each direction.
        strides: of the maps, from fine to coarse, each twice the one before.
        finest: boxes smaller than twice this many pixels come from the first map.
    """

    def __init__(self, size: int, strides: Sequence[int], finest: float) -> None:
        self.size, self.strides, self.finest = size, tuple(strides), finest

    def levels(self, boxes: Tensor) -> Tensor:
        """The level's number of each of ``boxes`` (N, 4)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        level = torch.floor(torch.log2(side / self.finest + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()

    def __call__(self, maps: Sequence[Tensor], boxes: list[Tensor]) -> Tensor:
        """(N, channels, size, size), of all images' boxes one after another.

        Args:
            maps: (B, channels, h, w), at least one a stride.
            boxes: (n, 4) in pixels, one tensor an image.
        """
        number = torch.repeat_interleave(torch.tensor([len(b) for b in boxes])).to(boxes[0])
        regions = torch.cat([number[:, None], torch.cat(boxes)], dim=1)
        levels = self.levels(regions[:, 1:])
        order, found = [], []
        for level, (m, stride) in enumerate(zip(maps, self.strides, strict=False)):
            here = (levels == level).nonzero()[:, 0]
            order.append(here)
            exact = full_precision(m)  # coordinates in half types would be wrong by pixels
            found.append(
                roi_align(exact, regions[here].to(exact), self.size, 1 / stride, sampling_ratio=0, aligned=True)
            )
        return torch.cat(found)[torch.cat(order).argsort()].to(maps[0].dtype)
