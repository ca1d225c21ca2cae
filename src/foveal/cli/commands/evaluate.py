"""The signature of ``foveal evaluate``; its options are in ``cli.options``, with their checks."""

from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.lists import check_recipe
from foveal.cli.options import EvaluateOptions, check_options
from foveal.cli.paths import check_checkpoint, check_data


def main(
    options: Annotated[EvaluateOptions, arg(name="")],
    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None,
) -> None:
    """Evaluate trained weights: accuracy of a classifier, also on the sets that measure robustness; average precision
    of a detector's boxes and masks; mean IoU of a segmenter and the IoU of every class.

    A file written by foveal train contains the model, its classes and its preprocessing; for released weights the
    recipe gives them.
    Under torchrun or accelerate launch the processes share the images, each evaluated once.

    Args:
        recipe: Name of the recipe; a file of foveal train knows it.
    """
    check_options(options)
    if recipe is not None:
        check_recipe(recipe)
    check_checkpoint(options.checkpoint)
    check_data(options.data)
    from foveal.cli.evaluate import run

    run(recipe, options)
