"""Target segments and predicted masks, compared at sampled points (PointRend, arXiv:1912.08193, section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.nn.utils.rnn import pad_sequence

from foveal.tasks.segmentation.segmenter import IGNORED


@dataclass(frozen=True)
class Segments:
    """The segments of B images, each filled up to the M of the image that has most.

    A segment is all pixels of a class. Ignored pixels lie outside of every segment, as in MMSegmentation: they are
    learnt from as such.

    Attributes:
        pixels: (B, H, W) int64, the label maps.
        labels: (B, M) int64, the classes that occur in each image, ascending; 0 where filled up.
        counts: how many segments each image has, possibly none.
    """

    pixels: Tensor
    labels: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, pixels: Tensor, num_classes: int) -> "Segments":
        """Of label maps (B, H, W) int64, with classes below ``num_classes`` or ``IGNORED``.

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


def inside(pixels: Tensor, image: Tensor, label: Tensor, points: Tensor) -> Tensor:
    """How much of a point lies in a segment: its mask, sampled bilinearly between pixels' centres, 0 beyond the border.

    That is ``grid_sample`` of the masks, which are never made: with many classes they would be far larger than the
    label maps.

    Args:
        pixels: (B, H, W) int64, the label maps.
        image: which map each of the segments is of, int64, of any shape (...).
        label: their classes, int64 (...).
        points: (..., P, 2) float as (x, y) in [0, 1], or of a shape that ``image`` and ``label`` with a dimension more
            can be expanded with.

    Returns:
        (..., P) in the points' dtype, from 0 to 1.
    """
    height, width = pixels.shape[-2:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    total = points.new_zeros(())
    for column, by_column in ((left, 1 - (x - left)), (left + 1, x - left)):
        for row, by_row in ((top, 1 - (y - top)), (top + 1, y - top)):
            there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = (image[..., None] * height + row.clamp(0, height - 1).long()) * width
            place = place + column.clamp(0, width - 1).long()
            # index_select, because pixels[place] takes six times as long on a CPU
            hit = pixels.flatten().index_select(0, place.flatten()).view_as(place) == label[..., None]
            total = total + (by_column * by_row) * (hit & there)
    return total


OVERSAMPLE = 3
UNCERTAIN_SHARE = 0.75


def sample(masks: Tensor, points: Tensor) -> Tensor:
    """Masks (N, C, h, w) between their pixels' centres, at points (N, P, 2) as (x, y) in [0, 1]: (N, C, P)."""
    return grid_sample(masks, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def draw(count: int, points: int, like: Tensor) -> Tensor:
    """Points (count, points, 2) anywhere, as (x, y) in [0, 1)."""
    return torch.rand(count, points, 2, dtype=like.dtype, device=like.device)


@torch.no_grad()
def draw_uncertain(masks: Tensor, points: int) -> Tensor:
    """Points (K, points, 2) for K masks of logits (K, h, w), three quarters of them where a mask is least certain.

    Those are the nearest to 0 of three times as many as are wanted; the others lie anywhere.
    """
    candidates = draw(len(masks), OVERSAMPLE * points, masks)
    certainty = sample(masks[:, None], candidates)[:, 0].abs()
    uncertain = int(UNCERTAIN_SHARE * points)
    chosen = certainty.topk(uncertain, dim=1, largest=False, sorted=False).indices
    nearest = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((nearest, draw(len(masks), points - uncertain, masks)), 1)
