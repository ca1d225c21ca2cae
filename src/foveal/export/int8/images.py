"""Images to calibrate on, and others to check the file with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.errors import FovealError
from foveal.image_files import load_rgb
from foveal.runtime.card import Card
from foveal.runtime.images import fit, normalise

EVERY = 4  # every fourth image is held out
BATCH = 8  # images that run at once, if the file takes any number


@dataclass(frozen=True)
class Calibration:
    """Image files for int8.

    Attributes:
        paths: the files, at least 4. Every fourth is held out: it checks the result, and is not calibrated on.
    """

    paths: tuple[Path, ...]

    @classmethod
    def draw(cls, paths: Sequence[Path], count: int) -> Calibration:
        """Return ``count`` of the files, evenly drawn from all; all if there are fewer.

        Raises:
            FovealError: there are fewer than 4 files, or fewer are asked for.
        """
        drawn = min(count, len(paths))
        if drawn < EVERY:
            raise FovealError(
                f"int8 needs at least {EVERY} images, three to calibrate on and one to check the file, not {drawn}: "
                "pass more."
            )
        return cls(tuple(paths[i * len(paths) // drawn] for i in range(drawn)))

    def load(self, card: Card) -> tuple[Batches, Batches]:
        """Return the images to calibrate on, and those held out, as inputs of a file.

        Raises:
            FovealError: an image cannot be read, or the file does not take images of 3 channels.
        """
        if card.input.channels != 3:
            raise FovealError(
                f"int8 is calibrated on photographs of 3 channels, and the network takes {card.input.channels}."
            )
        size = card.input.size
        pixels = np.stack([np.asarray(fit(load_rgb(path), card.resizing, size)) for path in self.paths])
        held_out = np.arange(len(pixels)) % EVERY == EVERY - 1
        return Batches(pixels[~held_out], card), Batches(pixels[held_out], card)


@dataclass(frozen=True)
class Batches:
    """Images (N, H, W, 3) uint8 in the size of a file, normalised batch by batch to save memory."""

    pixels: np.ndarray
    card: Card

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield batches (B, 3, H, W) float32 of the size that the file takes; what is missing in the last is left out,
        as ``foveal.runtime.Session`` fills it up."""
        size = self.card.input.batch or BATCH
        for start in range(0, len(self.pixels), size):
            yield np.stack([normalise(one, self.card.resizing) for one in self.pixels[start : start + size]])

    def first(self, count: int) -> Batches:
        """Return the first images."""
        return Batches(self.pixels[:count], self.card)
