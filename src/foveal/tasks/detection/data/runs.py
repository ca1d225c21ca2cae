"""COCO's run-length encoding of masks.

The runs of 0 and 1 by turns, column by column, from 0 on. Compressed, each is a number in base 32 with its lowest
digit first, a character a digit; from the fourth on it is the difference from the run before the last.
"""

from typing import Any

import numpy as np

from foveal.errors import FovealError

_FIRST, _MORE, _NEGATIVE, _BITS = 48, 32, 16, 5  # of a character: its zero, "not the last digit", sign, digit's width


def encode(segmentation: Any, height: int, width: int) -> bytes:
    """Compressed runs of polygons [[x1, y1, x2, y2, ...], ...] or of a run-length encoding, compressed or not.

    Raises:
        FovealError: faster-coco-eval is missing.
    """
    try:
        from faster_coco_eval.core import mask
    except ModuleNotFoundError as error:
        raise FovealError(
            "Masks are read with faster-coco-eval: install it with `pip install 'foveal[dense]'`."
        ) from error
    counts = mask.segmToRle(segmentation, width, height)["counts"]
    return counts if isinstance(counts, bytes) else counts.encode()


def decode(counts: bytes, height: int, width: int) -> np.ndarray:
    """The mask (height, width) of 0 and 1, uint8, of compressed runs. faster than the library's, which is for many."""
    runs = run_lengths(counts)
    columns = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(width, height)
    return np.ascontiguousarray(columns.T)


def run_lengths(counts: bytes) -> np.ndarray:
    """The runs (N,) int64 of a compressed encoding; empty where it ends within a number."""
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - _FIRST
    last = np.flatnonzero((characters & _MORE) == 0)
    if not len(last) or last[-1] != len(characters) - 1:
        return np.empty(0, dtype=np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    place = _BITS * (np.arange(len(characters)) - np.repeat(first, digits))
    numbers = np.add.reduceat((characters & (_MORE - 1)) << place, first)
    runs = np.where(characters[last] & _NEGATIVE, numbers - (1 << _BITS * digits), numbers)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
