"""What a trained network gets right and wrong on validation images, as sections of a page: one module per task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from foveal.report.page import Child

OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class Findings:
    """What one look at the validation images showed.

    Attributes:
        lead: a sentence about what the network learned.
        looked_at: images that were looked at; ``images``: those of the set.
        sections: parts of the page by their titles.
        example: an image file to predict on; None if the images are not files.
        every: every n-th image was looked at; those that could not be read are not.
        exports: whether the network has a form for ``foveal export``.
    """

    lead: str
    looked_at: int
    images: int
    sections: Sequence[tuple[str, Child]] = field(repr=False)
    example: Path | None = None
    every: int = 1
    exports: bool = True

    @property
    def scope(self) -> str | None:
        """A sentence about the images that were looked at, if these were not to be all."""
        if self.every == 1:
            return None
        return (
            f"The tables and pictures below are of {self.looked_at:,} validation images, evenly spread over all "
            f"{self.images:,}; figures of the training are of all of them."
        )


def look(task: Any, checkpoint: Path, on_batch: OnBatch | None = None) -> Findings:
    """Run the network in a file of ``foveal train`` over the validation images of its task once, or over a part of very
    many.

    Raises:
        FovealError: the file, the network or the images cannot be used.
    """
    found: Findings = import_module(f"foveal.report.findings_{task.kind}").look(task, checkpoint, on_batch)
    return found


def every_nth(images: int, most: int) -> int:
    """Return n such that every n-th of the images are at most ``most``."""
    return max(1, -(-images // most))
