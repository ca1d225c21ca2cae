"""A large image seen through windows that overlap, and their scores put together again."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin on a side of ``length`` pixels: every ``stride``, the last one pushed back to end with it.

    A side that is not longer than the window is taken whole, from 0.
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def slide(scores: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int, at_once: int = 1) -> Tensor:
    """Scores (C, H, W), float32, of an image (3, H, W): each pixel's mean over the windows that see it.

    The rule is that of MMSegmentation's ``slide_inference``: scores are summed, and divided by how often a pixel was
    seen, so all windows weigh the same. A side shorter than the window is not padded.

    Args:
        scores: from (B, 3, h, w) to (B, C, h, w).
        window, stride: in pixels, of both sides; a stride above the window would leave gaps.
        at_once: windows in a batch; they are all of one size.
    """
    height, width = image.shape[-2:]
    tops, lefts = (window_starts(length, window, stride) for length in (height, width))
    corners = list(product(tops, lefts))
    total: Tensor | None = None
    for first in range(0, len(corners), at_once):
        some = corners[first : first + at_once]
        found = scores(torch.stack([image[:, top : top + window, left : left + window] for top, left in some]))
        if total is None:
            total = found.new_zeros(found.shape[1], height, width, dtype=torch.float32)
        for (top, left), one in zip(some, found, strict=True):
            total[:, top : top + window, left : left + window] += one
    assert total is not None
    seen = torch.outer(_times_seen(tops, window, height), _times_seen(lefts, window, width))
    return total.div_(seen.to(total.device))


def _times_seen(starts: list[int], window: int, length: int) -> Tensor:
    """How many of the windows see each pixel of a side: (length,) float32."""
    times = torch.zeros(length)
    for start in starts:
        times[start : start + window] += 1
    return times
