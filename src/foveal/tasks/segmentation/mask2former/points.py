"""Target segments and predicted masks, compared at sampled points (PointRend, arXiv:1912.08193, section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.nn.utils.rnn import pad_sequence

from foveal.tasks.segmentation.segmenter import IGNORED

OVERSAMPLE = 3
UNCERTAIN_SHARE = 0.75


@dataclass(frozen=True)
class Segments:
    """The target segments of B images, padded to M, the largest number in one image.

    A segment consists of all pixels of a class. Ignored pixels lie outside every segment and are learnt as such, as in
    MMSegmentation.

    Attributes:
        pixels: (B, H, W) int64, the label maps.
        labels: (B, M) int64, the classes that occur in each image, ascending; padded with 0.
        counts: number of segments in each image, possibly 0.
    """

    pixels: Tensor
    labels: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, pixels: Tensor, num_classes: int) -> "Segments":
        """Create segments from label maps (B, H, W) int64, with classes below ``num_classes`` or ``IGNORED``.

        Raises:
            ValueError: a label that is neither.
        """
        present = torch.zeros(len(pixels), IGNORED + 1, dtype=torch.bool, device=pixels.device)
        present = present.scatter_(1, pixels.flatten(1), True)[:, :IGNORED].cpu()
        if present[:, num_classes:].any():
            worst = int(present.any(0).nonzero().max())
            raise ValueError(f"labels must be below {num_classes}, or {IGNORED} where ignored, not {worst}")
        classes = [of_image.nonzero().flatten() for of_image in present]
        labels = pad_sequence(classes, batch_first=True).to(pixels.device)
        return cls(pixels, labels, tuple(len(of_image) for of_image in classes))


def sample_segments(pixels: Tensor, image: Tensor, label: Tensor, points: Tensor) -> Tensor:
    """Sample the masks of segments bilinearly between pixel centres; 0 beyond the border.

    Equivalent to ``grid_sample`` on the masks, which are never materialised: with many classes they would be far larger
    than the label maps.

    Args:
        pixels: (B, H, W) int64, the label maps.
        image: index of each segment's label map, int64, of any shape (...).
        label: class of each segment, int64 (...).
        points: (..., P, 2) float as (x, y) in [0, 1], or broadcastable with ``image`` and ``label`` in all but the last
            two dimensions.

    Returns:
        (..., P) in the points' dtype, from 0 to 1.
    """
    height, width = pixels.shape[-2:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    total = points.new_zeros(())
    for column, by_column in ((left, 1 - (x - left)), (left + 1, x - left)):
        for row, by_row in ((top, 1 - (y - top)), (top + 1, y - top)):
            within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = (image[..., None] * height + row.clamp(0, height - 1).long()) * width
            index = index + column.clamp(0, width - 1).long()
            # index_select, because pixels[index] takes six times as long on a CPU
            hit = pixels.flatten().index_select(0, index.flatten()).view_as(index) == label[..., None]
            total = total + (by_column * by_row) * (hit & within)
    return total


def sample(masks: Tensor, points: Tensor) -> Tensor:
    """Sample masks (N, C, h, w) bilinearly at points (N, P, 2), given as (x, y) in [0, 1]; return (N, C, P)."""
    return grid_sample(masks, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def random_points(count: int, points: int, like: Tensor) -> Tensor:
    """Return random points (count, points, 2) as (x, y) in [0, 1), with the dtype and device of ``like``."""
    return torch.rand(count, points, 2, dtype=like.dtype, device=like.device)


@torch.no_grad()
def uncertain_points(masks: Tensor, points: int) -> Tensor:
    """Return points (K, points, 2) for K mask logits (K, h, w), three quarters of them where a mask is least certain.

    These are the ones nearest to 0 among three times ``points`` candidates; the others are uniformly random.
    """
    candidates = random_points(len(masks), OVERSAMPLE * points, masks)
    certainty = sample(masks[:, None], candidates)[:, 0].abs()
    uncertain = int(UNCERTAIN_SHARE * points)
    chosen = certainty.topk(uncertain, dim=1, largest=False, sorted=False).indices
    nearest = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((nearest, random_points(len(masks), points - uncertain, masks)), 1)
