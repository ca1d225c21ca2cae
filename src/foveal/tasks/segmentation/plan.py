"""The plan of a segmentation recipe."""

from pathlib import Path

import torch
from torch import Tensor, nn

from foveal.tasks.dense.recipe import create_model
from foveal.tasks.dense.shapes import CLASSES, TRAIN
from foveal.tasks.plan import RecipePlan, TrainingSet, check_processes, no_images, set_as_given
from foveal.tasks.segmentation.counting import count_segmenter
from foveal.tasks.segmentation.data import ADE20K_CLASSES
from foveal.tasks.segmentation.recipe import SegmentationRecipe
from foveal.tasks.segmentation.task import open_images
from foveal.training.plan import plan_run

#: The sets that recipes are named after: training images and classes.
KNOWN = {
    "ade20k": TrainingSet(20_210, len(ADE20K_CLASSES), "ADE20K's training images"),
    "shapes": TrainingSet(TRAIN, 1 + len(CLASSES), "made shapes on photographs"),
}


def plan_recipe(
    recipe: SegmentationRecipe,
    data: Path | None = None,
    *,
    images: int | None = None,
    processes: int = 1,
    needs_drop_path: bool = False,
) -> RecipePlan:
    """Plan ``recipe`` for ``processes`` devices. No image is opened and nothing is written.

    Memory is not estimated for Mask2Former, which matches what it finds with what there is.

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
    size = (recipe.augment.crop, recipe.augment.crop)
    count = count_segmenter(model, size)
    matches = recipe.segmenter == "mask2former"
    step = None if matches else lambda net, batch: _step(net, recipe, batch)
    return RecipePlan(
        recipe=recipe,
        images=found,
        size=size,
        params=count.params,
        macs=count.macs,
        run=plan_run(model, recipe.train, found.count, processes, step),
    )


def _images(recipe: SegmentationRecipe, data: Path | None, images: int | None) -> TrainingSet:
    known = KNOWN.get(recipe.name.partition(".")[0])
    if data is not None:
        train, _ = open_images(recipe, data)
        return TrainingSet(len(train), len(train.classes), str(data))
    if images is not None:
        return set_as_given(images, known.classes if known else len(ADE20K_CLASSES))
    if known is None:
        raise no_images(recipe)
    return known


def _step(model: nn.Module, recipe: SegmentationRecipe, batch: int) -> Tensor:
    """The loss of a batch without contents."""
    side = recipe.augment.crop
    pixels = torch.empty(batch, 3, side, side)
    if recipe.train.channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    losses = model(pixels, torch.empty(batch, side, side, dtype=torch.long))
    return torch.stack(list(losses.values())).sum()
