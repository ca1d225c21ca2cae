"""What ``foveal predict`` does with its options: the commands of the task that a file names predict."""

import sys
from io import TextIOWrapper

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
from foveal.tasks.registry import TASKS, noun

CLASSIFICATION = "classification"


def run(images: tuple[str, ...], options: PredictOptions) -> None:
    """Predict on ``images`` with the network in a file, or with an exported file in its own runtime."""
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


def what_it_holds(weights: WeightsFile, model: str | None) -> tuple[str, BaseRecipe | None]:
    """Return the task of the network in a file, and the recipe of a released detector or segmenter.

    The task is in the metadata of the file, or follows from the recipe that --model names; for a classifier --model
    names a network instead.
    """
    recipe = None if model is None else _dense_recipe(model)
    if weights.metadata is None:
        return (CLASSIFICATION if recipe is None else recipe.kind), recipe
    kind = weights.metadata.get("task", CLASSIFICATION)
    if model is not None and (kind != CLASSIFICATION or recipe is not None):
        raise UsageError(f"The metadata of {weights.path} names its model: leave --model out.")
    return kind, None


def _dense_recipe(name: str) -> BaseRecipe | None:
    """Return the recipe of this name if it is of a detector or segmenter, and None otherwise."""
    from foveal.tasks.recipes import RECIPES, get_recipe  # a file that says what it holds need not wait for these

    recipe = get_recipe(name) if name in RECIPES else None
    return None if recipe is None or recipe.kind == CLASSIFICATION else recipe
