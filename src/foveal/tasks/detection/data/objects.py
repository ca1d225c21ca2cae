"""The objects of many images in a few arrays.

A million objects are then not a million Python objects: arrays have no reference counts, so loading processes share
their memory with the process that forked them.
"""

from array import array
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ObjectArrays:
    """The M objects of all images, those of an image next to each other.

    Attributes:
        boxes: (M, 4) float32, (x1, y1, x2, y2) in pixels, within the image.
        labels: (M,) int64.
        areas: (M,) float32, pixels, as given by the file.
        runs, run_ends: the masks' compressed runs, concatenated, and (M,) their ends; empty without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    runs: bytes
    run_ends: np.ndarray

    def run(self, number: int) -> bytes:
        """Return the compressed runs of an object's mask."""
        return self.runs[self.run_ends[number - 1] if number else 0 : self.run_ends[number]]


@dataclass
class Columns:
    """Objects in the order of the file, appended one by one."""

    images: array = field(default_factory=lambda: array("q"))
    boxes: array = field(default_factory=lambda: array("f"))
    labels: array = field(default_factory=lambda: array("q"))
    areas: array = field(default_factory=lambda: array("f"))
    runs: list[bytes] = field(default_factory=list)

    def sorted(self) -> ObjectArrays:
        """Return the objects grouped by image, otherwise in the order of the file."""
        order = np.argsort(np.array(self.images), kind="stable")
        runs = [self.runs[number] for number in order] if self.runs else []
        return ObjectArrays(
            np.array(self.boxes, dtype=np.float32).reshape(-1, 4)[order],
            np.array(self.labels, dtype=np.int64)[order],
            np.array(self.areas, dtype=np.float32)[order],
            b"".join(runs),
            np.cumsum([len(run) for run in runs], dtype=np.int64),
        )
