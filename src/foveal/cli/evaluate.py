"""What ``foveal evaluate`` does with its options: the commands of the recipe's task evaluate."""

from foveal.cli.console import UsageError
from foveal.cli.options import EvaluateOptions, commands_of, refuse_others
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.report.evaluation import check_results_folder
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import described_recipe, get_recipe
from foveal.tasks.registry import TASKS, check_kind, noun


def run(recipe: str | None, options: EvaluateOptions) -> None:
    """Evaluate trained weights by a recipe, or by that which their file names."""
    own_images = options.data is not None
    chosen = None if recipe is None else get_recipe(recipe, own_images=own_images)
    if chosen is not None:
        _check_task(options, chosen, f"{recipe} is")
    if options.checkpoint is None and chosen is None:
        raise UsageError("RECIPE is missing: --pretrained is for the released weights of a recipe.")
    if options.out is not None:
        check_results_folder(options.out)
    if options.checkpoint is not None:
        chosen, weights = _of_file(options, chosen)
        commands_of(chosen.kind).evaluate(chosen, weights, options)
    elif chosen is not None:
        commands_of(chosen.kind).evaluate(chosen, None, options)


def _of_file(options: EvaluateOptions, chosen: BaseRecipe | None) -> tuple[BaseRecipe, WeightsFile]:
    """Return the recipe of the file of weights, which must agree with the ``chosen`` one, and the opened file."""
    assert options.checkpoint is not None
    weights = WeightsFile.open(options.checkpoint)
    card = weights.metadata
    if chosen is None:
        if card is None:
            raise UsageError(
                f"{weights.path} does not say what it holds: name its recipe, as in foveal evaluate "
                f"imagenet.transnext_tiny --checkpoint {weights.path}."
            )
        kind = card.get("task", "classification")
        if kind not in TASKS:
            raise FovealError(f"{weights.path} holds a {noun(kind)}, which this version does not know: update foveal.")
        chosen = described_recipe(card, own_images=options.data is not None)
        _check_task(options, chosen, "this file holds")
    elif card is not None:
        check_kind(card, weights.path, chosen.kind)
        trained = card.get("recipe", chosen.name)
        if trained != chosen.name:
            raise FovealError(f"{weights.path} was trained with {trained}, not with {chosen.name}: leave RECIPE out.")
    return chosen, weights


def _check_task(options: EvaluateOptions, recipe: BaseRecipe, who: str) -> None:
    """Raise UsageError for options of another task."""
    refuse_others(options, recipe.kind, who)
    if options.precision == "int8" and recipe.kind != "classification":
        raise UsageError(f"--precision int8 is for classifiers, and {who} a {noun(recipe.kind)}: pass bf16.")
