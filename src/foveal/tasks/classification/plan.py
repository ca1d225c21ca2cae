"""The plan of a classification recipe."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.models.counting import flops
from foveal.tasks.classification.data import open_train_and_val
from foveal.tasks.classification.data.cifar import is_cifar100
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.task import create_model
from foveal.tasks.plan import RecipePlan, TrainingSet, check_processes, no_images, set_as_given
from foveal.training.plan import plan_run

#: The sets that recipes are named after: training images and classes.
KNOWN = {
    "imagenet": TrainingSet(1_281_167, 1000, "ImageNet-1K"),
    "cifar100": TrainingSet(50_000, 100, "CIFAR-100"),
    "digits": TrainingSet(1438, 10, "scikit-learn's digits"),
}


def plan_recipe(
    recipe: Recipe,
    data: Path | None = None,
    *,
    images: int | None = None,
    processes: int = 1,
    needs_drop_path: bool = False,
) -> RecipePlan:
    """Plan ``recipe`` for ``processes`` devices. No image is opened and nothing is written.

    Args:
        data: the folder to count images and classes in; None for the set that the recipe is named after.
        images: their number, where there is neither.
        needs_drop_path: refuse a model without stochastic depth.

    Raises:
        FovealError: whatever training would refuse before its first step; or nobody says how many images there are.
    """
    check_processes(processes)
    found = _images(recipe, data, images)
    with torch.device("meta"):
        recipe, model = create_model(recipe, found.classes, pretrained=False, needs_drop_path=needs_drop_path)
    run = plan_run(model, recipe.train, found.count, processes, lambda net, batch: _step(net, recipe, found, batch))
    recipe.augment.check_device_batch(run.batching.device)
    return RecipePlan(
        recipe=recipe,
        images=found,
        views=recipe.augment.repeats,
        size=recipe.fit.size,
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=flops(model, recipe.fit.size).macs,
        run=run,
    )


def _images(recipe: Recipe, data: Path | None, images: int | None) -> TrainingSet:
    known = KNOWN.get(recipe.name.partition(".")[0])
    if images is not None:
        return set_as_given(images, known.classes if known else 1000)
    if data is not None and not is_cifar100(data):
        train, _ = open_train_and_val(data)
        return TrainingSet(len(train), len(train.classes), str(data))
    if data is not None:
        return KNOWN["cifar100"]
    if known is None:
        raise no_images(recipe)
    return known


def _step(model: nn.Module, recipe: Recipe, images: TrainingSet, batch: int) -> Tensor:
    """The loss of a batch without contents."""
    pixels = torch.empty(batch, 3, *recipe.fit.size)
    if recipe.train.channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    mixes = recipe.augment.mixes
    targets = torch.empty(batch, images.classes) if mixes else torch.empty(batch, dtype=torch.long)
    return F.cross_entropy(model(pixels).float(), targets)
