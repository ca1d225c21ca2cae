"""``foveal predict``: predict on image files with the network in a file of weights."""

import sys
from io import TextIOWrapper
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import UsageError
from foveal.cli.options import PredictOptions, predict_commands_of, refuse_others
from foveal.cli.predict_run import Tally
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.ops import keep_memory
from foveal.report.picture_folder import written_before
from foveal.runtime.session import is_exported, open_session
from foveal.tasks.inputs import STANDARD_INPUT, Inputs, find_inputs
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import RECIPES, get_recipe
from foveal.tasks.registry import TASKS, noun

CLASSIFICATION = "classification"


def main(
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE...")],
    options: Annotated[PredictOptions, arg(name="")],
) -> None:
    """Predict on image files with the network in a file of weights: the most probable classes, objects with boxes and
    masks, or the class of every pixel.

    Images that cannot be read are reported, the others are answered, and the exit code is 1.

    Args:
        images: Image files of any size, in any common format; folders, with all below; patterns such as
            'photos/**/*.jpg'; videos, if PyAV is installed; - for a list of paths on standard input, one a line.
    """
    _check(images, options)
    inputs = _inputs(images, options)
    tally = _predict_exported(inputs, options) if is_exported(options.checkpoint) else _predict(inputs, options)
    tally.conclude()


def _predict(inputs: Inputs, options: PredictOptions) -> Tally:
    keep_memory()  # every batch has the same large maps
    weights = WeightsFile.open(options.checkpoint)
    kind, recipe = what_it_holds(weights, options.model)
    if kind not in TASKS:
        raise FovealError(f"{weights.path} holds a {noun(kind)}, which this version does not know: update foveal.")
    refuse_others(options, kind, "this file holds")
    return predict_commands_of(kind).predict(inputs, weights, recipe, options)


def _predict_exported(inputs: Inputs, options: PredictOptions) -> Tally:
    """Predict with an exported file in its own runtime."""
    session = open_session(options.checkpoint)
    kind = session.card.task
    if options.model is not None:
        raise UsageError(f"{session.path} names its model: leave --model out.")
    if kind not in TASKS:
        raise FovealError(f"{session.path} holds a {noun(kind)}, which predicts no classes: export the whole network.")
    refuse_others(options, kind, "this file holds")
    return predict_commands_of(kind).predict_exported(inputs, session, options)


def _inputs(images: tuple[str, ...], options: PredictOptions) -> Inputs:
    if STANDARD_INPUT in images:
        if sys.stdin.isatty():
            raise UsageError("- reads a list of paths from standard input: pipe one in, or name the images.")
        if isinstance(sys.stdin, TextIOWrapper):  # bytes that are not UTF-8 belong to the name of a file
            sys.stdin.reconfigure(errors="surrogateescape")
    written = []
    if options.out is not None:
        written = [(options.out / name).resolve() for name in written_before(options.out)]
    inputs = find_inputs(images, sys.stdin, every=options.every or 1, written=frozenset(written))
    if options.every is not None and not inputs.has_videos:
        raise UsageError("--every is for videos, and there is none: leave it out.")
    return inputs


def _check(images: tuple[str, ...], options: PredictOptions) -> None:
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    for option, number, least in (
        ("--top-k", options.top_k, 1),
        ("--size", options.size, 1),
        ("--every", options.every, 1),
        ("--workers", options.workers, 0),
    ):
        if number is not None and number < least:
            raise UsageError(f"{option} must be at least {least}, not {number}.")
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score must be from 0 to 1, not {options.score}.")


def what_it_holds(weights: WeightsFile, model: str | None) -> tuple[str, BaseRecipe | None]:
    """Return the task of the network in a file, and the recipe of a released detector or segmenter.

    The task is in the metadata of the file, or follows from the recipe that --model names; for a classifier --model
    names a network instead.
    """
    named = get_recipe(model) if model in RECIPES else None
    recipe = None if named is None or named.kind == CLASSIFICATION else named
    if weights.metadata is None:
        return (CLASSIFICATION if recipe is None else recipe.kind), recipe
    kind = weights.metadata.get("task", CLASSIFICATION)
    if model is not None and (kind != CLASSIFICATION or recipe is not None):
        raise UsageError(f"The metadata of {weights.path} names its model: leave --model out.")
    return kind, None
