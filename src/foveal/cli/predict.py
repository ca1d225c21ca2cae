"""``foveal predict``: predict on image files with the network in a file of weights."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import UsageError
from foveal.cli.options import PredictOptions, commands_of, refuse_others
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.runtime.session import is_exported, open_session
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import RECIPES, get_recipe
from foveal.tasks.registry import TASKS, noun

CLASSIFICATION = "classification"


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
    if is_exported(options.checkpoint):
        _predict_exported(images, options)
        return
    weights = WeightsFile.open(options.checkpoint)
    kind, recipe = what_it_holds(weights, options.model)
    if kind not in TASKS:
        raise FovealError(f"{weights.path} holds a {noun(kind)}, which this version does not know: update foveal.")
    refuse_others(options, kind, "this file holds")
    commands_of(kind).predict(images, weights, recipe, options)


def _predict_exported(images: tuple[Path, ...], options: PredictOptions) -> None:
    """Predict with an exported file in its own runtime."""
    session = open_session(options.checkpoint)
    kind = session.card.task
    if options.model is not None:
        raise UsageError(f"{session.path} names its model: leave --model out.")
    if kind not in TASKS:
        raise FovealError(f"{session.path} holds a {noun(kind)}, which predicts no classes: export the whole network.")
    refuse_others(options, kind, "this file holds")
    commands_of(kind).predict_exported(images, session, options)


def _check(images: tuple[Path, ...], options: PredictOptions) -> None:
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    if options.top_k is not None and options.top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {options.top_k}.")
    if options.size is not None and options.size < 1:
        raise UsageError(f"--size must be at least 1, not {options.size}.")
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
