"""A look at a few label maps before a run: what the run would refuse, and which classes have no pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foveal.errors import FovealError
from foveal.tasks.segmentation.data.coverage import about_ignored, absent_classes, present
from foveal.tasks.segmentation.data.dataset import LabelledImages
from foveal.training.config import Broken
from foveal.training.loading import all_broken
from foveal.training.samples import BrokenSample

# What bounds the look: reading all label maps would be a second pass over the data.
MOST_FILES, MOST_PIXELS = 32, 2**24


def survey(images: LabelledImages, broken: Broken) -> None:
    """Read label maps, evenly over the set, until every class has a pixel, and at most 32 of them or 16 million pixels.

    If no pixel has a class so far, all others are read until one has: a set without any is refused. If classes have no
    pixel, a notice is added. After a look at a part of the label maps it is only added if these are at least as many as
    the classes: fewer say nothing.

    Args:
        images: the set.
        broken: whether files that cannot be read stop the run, or are skipped.

    Raises:
        FovealError: with ``broken="stop"``, one of the files cannot be read, or a label map has another size than its
            image; no file can be read; no pixel has a class.
    """
    names: list[str] = []
    pixels = 0
    for number, index in enumerate(_spread(len(images))):
        seen = images.coverage.seen()
        covered = not absent_classes(images.classes, images.table, seen)
        enough = covered or number >= MOST_FILES or pixels >= MOST_PIXELS
        if enough and present(images.table, seen):
            break
        try:
            images.check_size(index)
            pixels += images.labels(index).numel()
        except BrokenSample as error:
            if broken == "stop":
                raise FovealError(str(error)) from error
            names.append(error.name)
    seen = images.coverage.seen()
    if len(names) == len(images):
        raise all_broken(names)
    if not present(images.table, seen):
        raise FovealError(about_ignored(images.place, images.classes, images.table, seen))
    if seen.read == seen.total or seen.read >= len(images.classes):
        images.suppose(seen)


def _spread(count: int) -> Iterator[int]:
    """Yield all indices below ``count``: first some that are spread evenly, then the others in order."""
    first = np.unique(np.linspace(0, count - 1, min(count, MOST_FILES)).round().astype(int)).tolist()
    yield from first
    yield from sorted(set(range(count)) - set(first))
