"""``foveal evaluate``: how good a classifier is, on one or several sets, sizes and modes; a detector; a segmenter."""

from typing import Annotated, cast

from tyro.conf import Positional, arg

from foveal.cli.evaluate_classification import evaluate_classifier
from foveal.cli.evaluate_detection import evaluate_on_coco
from foveal.cli.evaluate_options import EvaluateOptions, check_options
from foveal.cli.evaluate_segmentation import evaluate_on_label_maps
from foveal.cli.options import refuse_others
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.recipes import get_recipe
from foveal.tasks.segmentation.recipe import SegmentationRecipe


def main(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    options: Annotated[EvaluateOptions, arg(name="")],
) -> None:
    """How good trained weights are: top-1 and top-5 of a classifier, also on the sets that measure robustness; average
    precision of a detector's boxes and masks; mean IoU of a segmenter and the IoU of every class.

    A file of foveal train says itself which model, classes and image treatment it has; for released weights the recipe
    does. Under torchrun or accelerate launch the processes share the images, each taken once.

    Args:
        recipe: Name of the recipe.
    """
    check_options(options)
    chosen = get_recipe(recipe)
    refuse_others(options, chosen.kind, f"{recipe} is")
    if isinstance(chosen, DetectionRecipe):
        evaluate_on_coco(chosen, options)
    elif isinstance(chosen, SegmentationRecipe):
        evaluate_on_label_maps(chosen, options)
    else:
        evaluate_classifier(cast(Recipe, chosen), options)
