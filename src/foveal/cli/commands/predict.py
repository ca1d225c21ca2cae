"""The signature of ``foveal predict``; its options are in ``cli.options``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import UsageError
from foveal.cli.options import PredictOptions


def main(
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")],
    options: Annotated[PredictOptions, arg(name="")],
) -> None:
    """Predict on image files with the network in a file of weights: the most probable classes, objects with boxes and
    masks, or the class of every pixel.

    Args:
        images: Image files of any size, in any common format.
    """
    _check(images, options)
    from foveal.cli.predict import run

    run(images, options)


def _check(images: tuple[Path, ...], options: PredictOptions) -> None:
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    if options.top_k is not None and options.top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {options.top_k}.")
    if options.size is not None and options.size < 1:
        raise UsageError(f"--size must be at least 1, not {options.size}.")
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score must be from 0 to 1, not {options.score}.")
