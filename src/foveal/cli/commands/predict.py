"""The signature of ``foveal predict``; its options are in ``cli.options``."""

from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import UsageError
from foveal.cli.options import PredictOptions, check_least
from foveal.cli.paths import check_checkpoint
from foveal.tasks.inputs import check_named


def main(
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE...")],
    options: Annotated[PredictOptions, arg(name="")],
) -> None:
    """Predict on image files with the network in a file of weights: the most probable classes, objects with boxes and
    masks, or the class of every pixel.

    Images that cannot be read are reported, the others are answered, and the exit code is 1.

    Args:
        images: Image files of any size, in any common format; folders, with all below; patterns such as
            'photos/**/*.jpg'; videos, if PyAV is installed; - for a list of paths on standard input, one per line.
    """
    _check(images, options)
    check_named(images)
    check_checkpoint(options.checkpoint)
    from foveal.cli.predict import run

    run(images, options)


def _check(images: tuple[str, ...], options: PredictOptions) -> None:
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    check_least(
        ("--top-k", options.top_k, 1),
        ("--size", options.size, 1),
        ("--every", options.every, 1),
        ("--workers", options.workers, 0),
    )
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score must be from 0 to 1, not {options.score}.")
