"""The class of every pixel of an image by an exported segmenter, as in the segmenter's evaluation."""

from __future__ import annotations

from itertools import product

import numpy as np

from foveal.errors import FovealError
from foveal.runtime.card import Card
from foveal.runtime.inference import Inference, window_starts
from foveal.runtime.padded import input_size, pad, resize, within
from foveal.runtime.session import Session
from foveal.types import Size

SCORES = "scores"
_CLASSES_AT_ONCE = 16  # whose scores are held in the image's own size


def inference_of(card: Card) -> Inference:
    """Return how images are fed to a segmenter, as its file says.

    Raises:
        FovealError: the file is not of a segmenter, or does not say it.
    """
    if card.task != "segmentation":
        raise FovealError(f"The file is for {card.task}, not a segmenter: pass the file of one.")
    try:
        entries = card.settings["inference"]
        return Inference(**{**entries, "scales": tuple(entries["scales"])})
    except (KeyError, TypeError) as error:
        raise FovealError("The file does not say how images are fed to it: export the segmenter again.") from error


def label_map(session: Session, pixels: np.ndarray, inference: Inference | None = None) -> np.ndarray:
    """Return the class of every pixel of an image, (H, W) uint8.

    A file of any size, or one of windows, gives the answer of the network that it was exported from. Other files of a
    fixed size take the image in their corner, smaller if it would not fit, and zeros elsewhere.

    Args:
        session: of a segmenter's file.
        pixels: (H, W, 3) uint8, RGB.
        inference: None for what the file says; of one view.

    Raises:
        FovealError: the file is of another task, or fails, or its scores are NaN.
    """
    inference = inference_of(session.card) if inference is None else inference
    own = (pixels.shape[0], pixels.shape[1])
    size = inference.fitted(*own, inference.scales[0])
    if inference.window is None or inference.stride is None:
        image = resize(pixels, within(session.card.input, size))
        scores = _scores(session, image)
    else:
        scores = _sliding_window(session, resize(pixels, size), inference.window, inference.stride)
    best, labels = _best(scores, own)
    if np.isnan(best).any():
        raise FovealError("The segmenter's scores are NaN: its weights are broken, use others.")
    return labels


def _scores(session: Session, image: np.ndarray) -> np.ndarray:
    """Return scores (C, h, w) of an image (3, h, w)."""
    card = session.card
    height, width = image.shape[1:]
    padded = pad(image, card.resizing, input_size(card.input, (height, width), card.settings.get("size_divisor", 1)))
    return session.run(padded[None])[SCORES][0, :, :height, :width]


def _sliding_window(session: Session, image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """Return scores (C, h, w): each pixel's mean over the windows that contain it."""
    height, width = image.shape[1:]
    total, counts = None, np.zeros((height, width), np.float32)
    for top, left in product(*(window_starts(side, window, stride) for side in (height, width))):
        rows, columns = slice(top, top + window), slice(left, left + window)
        found = _scores(session, image[:, rows, columns])
        total = np.zeros((len(found), height, width), np.float32) if total is None else total
        total[:, rows, columns] += found
        counts[rows, columns] += 1
    assert total is not None
    return total / counts


def _best(scores: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest score of each pixel and its class, the first one of equal scores, from scores (C, h, w) that
    are resized to ``size``."""
    best, labels = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for first in range(0, len(scores), _CLASSES_AT_ONCE):
        some = upsample(scores[first : first + _CLASSES_AT_ONCE], size)
        at = some.argmax(0)
        found = np.take_along_axis(some, at[None], 0)[0]
        labels = np.where(found > best, at + first, labels).astype(np.uint8)
        best = np.maximum(best, found)  # which keeps NaN
    return best, labels


def upsample(scores: np.ndarray, size: Size) -> np.ndarray:
    """Return scores (C, h, w) bilinearly interpolated at the pixels of ``size``, without antialiasing."""
    for axis, side in zip((1, 2), size, strict=True):
        if scores.shape[axis] != side:
            low, high, share = _neighbours(scores.shape[axis], side)
            share = share[:, None] if axis == 1 else share
            scores = scores.take(low, axis) * (1 - share) + scores.take(high, axis) * share
    return scores


def _neighbours(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each of ``side`` pixels, the two of ``length`` that it lies between, and the share of the second."""
    at = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(length / side) - np.float32(0.5)).clip(0)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), at - low.astype(np.float32)
