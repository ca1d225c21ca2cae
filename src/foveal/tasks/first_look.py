"""A look at a few images of a set before a run: what is wrong with images is usually wrong with all of them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from foveal.errors import BrokenSample, FovealError
from foveal.pixels import NARROW, spread
from foveal.training.config import Broken

MOST_LOOKED_AT = 8  # images of a set


def look_at_images(load: Callable[[int], object], count: int, broken: Broken, place: str | Path) -> list[str]:
    """Decode up to 8 images that are spread evenly over a set: what would stop a run later is found at its start.

    If broken images are skipped and none of these can be read, more are decoded until one can.

    Args:
        load: from an index to the decoded image, or BrokenSample; not called for images that are not looked at.
        count: number of images of the set, at least 1.
        broken: whether the run stops at broken images, or skips them.
        place: where the images are, for notices.

    Returns:
        Sentences about broken images that were found and will be skipped, and about lost contrast.

    Raises:
        FovealError: with ``broken="stop"``, one of them cannot be read; otherwise, none of the set can.
    """
    looked = min(count, MOST_LOOKED_AT)
    first = [number * (count - 1) // max(looked - 1, 1) for number in range(looked)]
    found = [_loaded(load, index) for index in first]
    problems = [str(image) for image in found if isinstance(image, BrokenSample)]
    if not problems:
        return _about_pixels(found, place)
    if broken == "stop":
        raise FovealError(problems[0])
    others = (index for index in range(count) if index not in first)
    if len(problems) == looked and all(isinstance(_loaded(load, index), BrokenSample) for index in others):
        raise FovealError(f"None of the {count:,} images of {place} can be read; the first: {problems[0]}")
    return [
        f"{len(problems)} of the {looked} images of {place} that were looked at cannot be read, and such images are "
        f"skipped; the first: {problems[0]}",
        *_about_pixels(found, place),
    ]


def _loaded(load: Callable[[int], object], index: int) -> object:
    try:
        return load(index)
    except BrokenSample as error:
        return error


def _about_pixels(found: Iterable[object], place: str | Path) -> list[str]:
    """Return a sentence if all images with more than 8 bits per channel became nearly one colour."""
    spreads = [width for image in found if isinstance(image, Image.Image) and (width := spread(image)) is not None]
    if not spreads or max(spreads) >= NARROW:
        return []
    return [
        f"Images of {place} have more than 8 bits per channel and become nearly one colour, because their numbers are "
        f"within a sixteenth of the range ({len(spreads)} looked at): scale them to the whole range, or save them with "
        "8 bits."
    ]
