"""``foveal predict``: what is on these images?"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError
from foveal.cli.options import only_for, refuse_others
from foveal.cli.predict_classes import predict_classes
from foveal.cli.predict_maps import predict_maps
from foveal.cli.predict_objects import predict_objects
from foveal.models.weights_file import WeightsFile
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import RECIPES, get_recipe
from foveal.tasks.segmentation.recipe import SegmentationRecipe

TOP_K, THRESHOLD = 5, 0.5


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What was asked for on the command line.

    Attributes:
        checkpoint: File with the weights: best.pt of a run, or released ones.
        model: Model in the file, or of a released detector or segmenter its recipe (coco.NAME, ade20k.NAME); a file of
            foveal train says it itself.
        size: Side of the square that images are fitted to, in pixels, of a detector their short side, of a segmenter
            the crops of training, which other sides are in proportion to; that of training if left out.
        top_k: Of a classifier: classes to show for each image; 5 if left out.
        score: Of a detector: objects below this score, from 0 to 1, are not shown; 0.5 if left out.
        out: Folder for a picture of each image; of a detector also for detections.json in COCO's format, of a
            segmenter for label maps.
    """

    checkpoint: Path
    model: str | None = None
    size: int | None = None
    top_k: int | None = field(default=None, metadata=only_for(Recipe.kind))
    score: float | None = field(default=None, metadata=only_for(DetectionRecipe.kind))
    out: Path | None = field(default=None, metadata=only_for(DetectionRecipe.kind, SegmentationRecipe.kind))
    json: Json = False


def main(
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")],
    options: Annotated[PredictOptions, arg(name="")],
) -> None:
    """What is on image files, by what the file of weights holds: the most probable classes, objects with their boxes
    and masks, or the class of every pixel.

    Args:
        images: Image files of any size and format.
    """
    _check(images, options)
    checkpoint = WeightsFile.open(options.checkpoint)
    task, recipe = _what_it_holds(checkpoint, options.model)
    refuse_others(options, task, "this file holds")
    size, out, json = options.size, options.out, options.json
    if task == DetectionRecipe.kind:
        assert recipe is None or isinstance(recipe, DetectionRecipe)
        threshold = THRESHOLD if options.score is None else options.score
        predict_objects(images, checkpoint, recipe, size=size, threshold=threshold, out=out, json=json)
    elif task == SegmentationRecipe.kind:
        assert recipe is None or isinstance(recipe, SegmentationRecipe)
        predict_maps(images, checkpoint, recipe, size=size, out=out, json=json)
    else:
        predict_classes(images, checkpoint, options.model, size=size, top_k=options.top_k or TOP_K, json=json)


def _check(images: tuple[Path, ...], options: PredictOptions) -> None:
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    if options.top_k is not None and options.top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {options.top_k}.")
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score must be from 0 to 1, not {options.score}.")


def _what_it_holds(checkpoint: WeightsFile, model: str | None) -> tuple[str, BaseRecipe | None]:
    """The task of what a file holds, which it says itself or --model by the name of a recipe; and that recipe.

    A classifier's --model is the name of a network instead.
    """
    named = get_recipe(model) if model in RECIPES else None
    recipe = None if named is None or named.kind == Recipe.kind else named
    card = checkpoint.metadata
    if card is None:
        return (Recipe.kind if recipe is None else recipe.kind), recipe
    task = card.get("task", Recipe.kind)
    if model is not None and (task != Recipe.kind or recipe is not None):
        raise UsageError(f"{checkpoint.path} says itself what it holds: leave --model out.")
    return task, None
