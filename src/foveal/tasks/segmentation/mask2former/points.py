"""Places at which masks are compared, instead of at every pixel (PointRend, arXiv:1912.08193, section 3.3)."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

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
