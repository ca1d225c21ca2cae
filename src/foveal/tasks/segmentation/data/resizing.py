"""Labels resized, and random squares cut out of them."""

import numpy as np
import torch
from torch import Tensor

from foveal.tasks.segmentation.segmenter import IGNORED

TRIES = 10  # for a square that has not too much of one class


class ResizedLabels:
    """Labels (H, W) as they are when resized to (height, width): each that of the nearest pixel's centre.

    Only what is cut out is made: a crop is a quarter of an image twice as large.
    """

    def __init__(self, labels: Tensor, height: int, width: int) -> None:
        self.shape = height, width
        self._labels = labels.numpy()  # whose take is several times faster
        self._rows, self._columns = (_nearest(*sides) for sides in zip(labels.shape, self.shape, strict=True))

    def cut(self, top: int, left: int, side: int) -> Tensor:
        """The square of ``side`` pixels there, or what of it is within."""
        rows, columns = self._rows[top : top + side], self._columns[left : left + side]
        strip = self._labels[rows[0] : rows[-1] + 1]
        return torch.from_numpy(strip.take(columns, axis=1).take(rows - rows[0], axis=0))


def _nearest(old: int, new: int) -> np.ndarray:
    """(new,): of each new pixel the old one in which its centre lies, in whole numbers; of two the second."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def random_square(labels: ResizedLabels, side: int, largest_share: float) -> tuple[int, int, Tensor]:
    """Top and left of a square of ``side`` pixels, 0 where the labels end within it; and the labels there.

    ``TRIES`` times one with too much of one class is passed over, as MMSegmentation does; the next is taken whatever it
    has. So one with a single class, or nothing but ignored pixels, is passed over too.
    """
    free = [max(length - side, 0) for length in labels.shape]
    for _ in range(TRIES if largest_share < 1 and any(free) else 0):
        top, left = _draw_corner(free)
        square = labels.cut(top, left, side)
        if is_mixed(square, largest_share):
            return top, left, square
    top, left = _draw_corner(free)
    return top, left, labels.cut(top, left, side)


def _draw_corner(free: list[int]) -> tuple[int, int]:
    top, left = (int(torch.randint(most + 1, ())) for most in free)
    return top, left


def is_mixed(labels: Tensor, largest_share: float) -> bool:
    """Whether every class has less than this share of the labelled pixels, of which there must be some."""
    counts = torch.bincount(labels.flatten(), minlength=IGNORED + 1)
    counts[IGNORED] = 0
    return bool(counts.max() < largest_share * counts.sum())
