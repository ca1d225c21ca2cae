"""``foveal evaluate``: measure trained weights on a data set."""

from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import UsageError
from foveal.cli.options import EvaluateOptions, check_options, commands_of, refuse_others
from foveal.tasks.recipes import get_recipe
from foveal.tasks.registry import noun


def main(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    options: Annotated[EvaluateOptions, arg(name="")],
) -> None:
    """Evaluate trained weights: top-1 and top-5 of a classifier, also on the sets that measure robustness; average
    precision of a detector's boxes and masks; mean IoU of a segmenter and the IoU of every class.

    A file written by foveal train contains the model, its classes and its preprocessing; for released weights the
    recipe gives them.
    Under torchrun or accelerate launch the processes share the images, each evaluated once.

    Args:
        recipe: Name of the recipe.
    """
    check_options(options)
    chosen = get_recipe(recipe, own_images=options.data is not None)
    refuse_others(options, chosen.kind, f"{recipe} is")
    if options.precision == "int8" and chosen.kind != "classification":
        raise UsageError(f"--precision int8 is for classifiers, and {recipe} is a {noun(chosen.kind)}: pass bf16.")
    commands_of(chosen.kind).evaluate(chosen, options)
