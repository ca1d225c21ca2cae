"""A look at some label maps before a run: what the run would refuse, and which classes have no pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from foveal.errors import BrokenSample, FovealError
from foveal.tasks.first_look import MOST_LOOKED_AT
from foveal.tasks.segmentation.data.coverage import about_ignored, present
from foveal.tasks.segmentation.data.dataset import LabelledImages
from foveal.training.config import Broken

# What bounds the look: reading all label maps would be a second pass over the data.
MOST_FILES, MOST_PIXELS = 32, 2**24
_PER_IMAGE = MOST_FILES // MOST_LOOKED_AT  # label maps for each image that is decoded, too


def survey(images: LabelledImages, broken: Broken) -> None:
    """Read up to 32 label maps or 16 million of their pixels, evenly over the set, and every fourth image.

    If no pixel has a class so far, all others are read until one has: a set without any is refused. If classes have no
    pixel, a notice is added. After a look at a part of the label maps it is only added if these are at least as many as
    the classes: fewer say nothing.

    Args:
        images: the set.
        broken: whether files that cannot be used stop the run, or are skipped; then a notice counts them.

    Raises:
        FovealError: no file can be used, or no pixel has a class. With ``broken="stop"`` also if a file cannot be read,
            a label map and its image differ in size, or a label map has a number that is not a class.
    """
    problems: list[BrokenSample] = []
    looked = pixels = 0
    for index in _spread(len(images)):
        enough = looked >= MOST_FILES or pixels >= MOST_PIXELS
        if enough and present(images.table, images.coverage.seen()):
            break
        try:
            _check_image(images, index, decodes=looked < MOST_FILES and looked % _PER_IMAGE == 0)
            pixels += images.labels(index).numel()
        except BrokenSample as error:
            if broken == "stop":
                raise FovealError(str(error)) from error
            problems.append(error)
        looked += 1
    if len(problems) == len(images):
        raise FovealError(_none_usable(images, problems))
    seen = images.coverage.seen()
    if not present(images.table, seen):
        raise FovealError(about_ignored(images.place, images.classes, images.table, seen))
    if problems:
        images.notices.append(_some_unusable(images, problems, looked))
    if seen.read == seen.total or seen.read >= len(images.classes):
        images.suppose(seen)


def _check_image(images: LabelledImages, index: int, decodes: bool) -> None:
    if decodes:
        images.image(index)
    else:
        images.check_size(index)


def _spread(count: int) -> Iterator[int]:
    """Yield all indices below ``count``: first some that are spread evenly, then the others in order."""
    first = np.unique(np.linspace(0, count - 1, min(count, MOST_FILES)).round().astype(int)).tolist()
    yield from first
    yield from sorted(set(range(count)) - set(first))


def _none_usable(images: LabelledImages, problems: Sequence[BrokenSample]) -> str:
    which = f"None of the {len(images):,} images with label maps in {images.place} can be used"
    return f"{which}{_by_reason(problems)}; the first: {problems[0]}"


def _some_unusable(images: LabelledImages, problems: Sequence[BrokenSample], looked: int) -> str:
    return (
        f"{len(problems):,} of the {looked:,} images with label maps in {images.place} that were looked at cannot be "
        f"used, and such images are skipped{_by_reason(problems)}; the first: {problems[0]}"
    )


def _by_reason(problems: Sequence[BrokenSample]) -> str:
    """Return how often each reason occurs and its first file, in parentheses; nothing for a single reason."""
    names: dict[str, list[str]] = {}
    for problem in problems:
        names.setdefault(problem.reason, []).append(problem.name)
    if len(names) == 1:
        return ""
    ordered = sorted(names.items(), key=lambda item: -len(item[1]))
    return f" ({'; '.join(f'{reason}: {len(files):,}, such as {files[0]}' for reason, files in ordered)})"
