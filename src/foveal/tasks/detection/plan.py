"""The plan of a detection recipe."""

from pathlib import Path

import torch

from foveal.tasks.dense.recipe import create_model
from foveal.tasks.dense.shapes import CLASSES, TRAIN
from foveal.tasks.detection.coco_classes import COCO_CLASSES
from foveal.tasks.detection.counting import count_detector
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.detection.task import open_images
from foveal.tasks.plan import RecipePlan, TrainingSet, check_processes, no_images, set_as_given
from foveal.training.plan import plan_run

#: The sets that recipes are named after: training images and classes.
KNOWN = {
    "coco": TrainingSet(117_266, len(COCO_CLASSES), "COCO train2017, those with an object"),
    "shapes": TrainingSet(TRAIN, len(CLASSES), "made shapes on photographs"),
}
EVERY_IMAGE = TrainingSet(118_287, len(COCO_CLASSES), "COCO train2017")


def plan_recipe(
    recipe: DetectionRecipe,
    data: Path | None = None,
    *,
    images: int | None = None,
    processes: int = 1,
    needs_drop_path: bool = False,
) -> RecipePlan:
    """Plan ``recipe`` for ``processes`` devices. No image is opened and nothing is written.

    Memory is not estimated: what a detector holds depends on the images' sizes and on what is found on them.

    Args:
        data: the folder to count images and classes in; None for the set that the recipe is named after.
        images: their number, where there is neither.
        needs_drop_path: refuse a backbone without stochastic depth.

    Raises:
        FovealError: whatever training would refuse before its first step; or nobody says how many images there are.
    """
    check_processes(processes)
    found = _images(recipe, data, images)
    with torch.device("meta"):
        recipe, model = create_model(recipe, found.classes, needs_drop_path=needs_drop_path)
    short, long = recipe.sides
    size = (short, min(long, short * 8 // 5))  # of the papers' tables: 800 x 1280
    count = count_detector(model, size)
    return RecipePlan(
        recipe=recipe,
        images=found,
        size=size,
        sides=_sides(recipe),
        params=count.params,
        macs=count.macs,
        run=plan_run(model, recipe.train, found.count, processes),
    )


def _images(recipe: DetectionRecipe, data: Path | None, images: int | None) -> TrainingSet:
    known = KNOWN.get(recipe.name.partition(".")[0])
    if data is not None:
        train, _ = open_images(recipe, data)
        return TrainingSet(len(train), len(train.classes), str(data))
    if images is not None:
        return set_as_given(images, known.classes if known else len(COCO_CLASSES))
    if known is None:
        raise no_images(recipe)
    return EVERY_IMAGE if known is KNOWN["coco"] and recipe.keep_empty else known


def _sides(recipe: DetectionRecipe) -> str:
    """How large images are trained on."""
    augment = recipe.augment
    if not augment.short:
        return "as they are" if augment.scale == (1, 1) else "times {:g} to {:g}".format(*augment.scale)
    first, last = min(augment.short), max(augment.short)
    short = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    return f"short side {short} pixels, long side at most {augment.long:,}"
