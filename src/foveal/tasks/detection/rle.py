"""COCO's run-length encoding of masks.

A mask's runs of 0 and 1 alternate down its columns, starting with 0. Compressed, each run is a number in base 32,
lowest digit first, with one character per digit; from the fourth run on it is the difference from the run before the
previous one. The functions come from faster-coco-eval, except for decoding in data loading, which is faster here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from foveal.errors import FovealError

# Parts of a character: the code of digit 0, the flag "more digits follow", the sign bit, and the bits per digit.
_ZERO, _MORE, _NEGATIVE, _BITS = 48, 32, 16, 5
_LONGEST = 8  # characters of a run: no image has 2 to the power of 40 pixels


class Rle(TypedDict):
    """One mask: ``size`` is [height, width], ``counts`` the compressed runs as text, ready for JSON."""

    size: list[int]
    counts: str


def coco_tools() -> Any:
    """Import and return faster-coco-eval, whose ``mask`` module has the functions for run lengths.

    Raises:
        FovealError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ModuleNotFoundError as error:
        raise FovealError(
            "Average precision and COCO's masks need faster-coco-eval: install it with `pip install 'foveal[dense]'`."
        ) from error
    return faster_coco_eval


def encode_masks(masks: Tensor) -> list[Rle]:
    """Encode each of the masks (N, H, W), bool or 0 and 1, on any device.

    They are copied from the device one by one: N masks of a large image would take N times its size.
    """
    tools = coco_tools().mask
    runs = []
    for mask in masks:
        found = tools.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
        counts = found["counts"]
        runs.append(Rle(size=list(mask.shape), counts=counts if isinstance(counts, str) else counts.decode("ascii")))
    return runs


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """Return the mask (H, W) bool of an encoding."""
    return coco_tools().mask.decode(dict(rle)).astype(bool)


def mask_areas(runs: Sequence[Rle]) -> list[int]:
    """Return the number of pixels of each mask."""
    return [int(area) for area in coco_tools().mask.area([dict(run) for run in runs])] if runs else []


def compress_segmentation(segmentation: Any, height: int, width: int) -> bytes:
    """Return the compressed runs of polygons [[x1, y1, x2, y2, ...], ...] or of run lengths, compressed or not.

    Raises:
        FovealError: faster-coco-eval is not installed.
    """
    counts = coco_tools().mask.segmToRle(segmentation, width, height)["counts"]
    return counts if isinstance(counts, bytes) else counts.encode()


def decode_runs(counts: bytes, height: int, width: int) -> np.ndarray:
    """Return the mask (height, width) uint8 of compressed runs.

    Faster than faster-coco-eval's function, which is made for many masks at a time.
    """
    runs = run_lengths(counts)
    columns = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(width, height)
    return np.ascontiguousarray(columns.T)


def is_empty(counts: bytes) -> bool:
    """Return whether compressed runs are those of a mask without a pixel: a single run."""
    return len(counts) <= _LONGEST and sum((character - _ZERO) & _MORE == 0 for character in counts) == 1


def run_lengths(counts: bytes) -> np.ndarray:
    """Return the runs (N,) int64 of a compressed encoding; empty if it ends within a number."""
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - _ZERO
    last = np.flatnonzero((characters & _MORE) == 0)
    if not len(last) or last[-1] != len(characters) - 1:
        return np.empty(0, dtype=np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    shift = _BITS * (np.arange(len(characters)) - np.repeat(first, digits))
    numbers = np.add.reduceat((characters & (_MORE - 1)) << shift, first)
    runs = np.where(characters[last] & _NEGATIVE, numbers - (1 << _BITS * digits), numbers)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
