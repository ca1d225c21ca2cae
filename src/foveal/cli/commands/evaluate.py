"""The signature of ``foveal evaluate``; its options are in ``cli.options``, with their checks."""

from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.lists import check_recipe
from foveal.cli.options import EvaluateOptions, check_options


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
    check_recipe(recipe)
    from foveal.cli.evaluate import run

    run(recipe, options)
