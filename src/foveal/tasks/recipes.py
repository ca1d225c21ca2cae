"""The recipes of all tasks by name, and what is created from them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.classification import ablations
from foveal.tasks.classification import recipes as classification
from foveal.tasks.detection.finetune import finetune_recipe as finetune_detector
from foveal.tasks.plan import TrainingPlan
from foveal.tasks.recipe import BaseRecipe, look_up
from foveal.tasks.registry import TASKS, recipes_of, task_class
from foveal.tasks.segmentation.finetune import finetune_recipe as finetune_segmenter
from foveal.tasks.task import Task

RECIPES: dict[str, Callable[[], BaseRecipe]] = {name: make for kind in TASKS for name, make in recipes_of(kind).items()}


def get_recipe(name: str, *, own_images: bool = False) -> BaseRecipe:
    """Return the recipe called ``name``; ``photos.MODEL`` and ``finetune.MODEL`` exist for every model of timm,
    ``finetune.HEAD_MODEL`` for every detector and segmenter, and ``ablation.TABLE.ROW`` for every row of an ablation.

    Args:
        own_images: it is for images that are given, not for those that come with it: an ablation then has the row's
            own network instead of a small form.

    Raises:
        FovealError: there is none; the sentence gives near names and the command that lists all.
    """
    dense = finetune_detector(name) or finetune_segmenter(name)
    if dense is not None:
        return dense
    if name.startswith(classification.PREFIXES):
        return classification.get_recipe(name)
    if name.startswith(ablations.PREFIX):
        return ablations.get_recipe(name, small=not own_images)
    return look_up(name, RECIPES)


def described_recipe(card: Mapping[str, Any], *, own_images: bool = False) -> BaseRecipe:
    """Return the recipe that the metadata of a file of ``foveal train`` name, or one of what else they say if it is a
    recipe of one's own.

    Args:
        card: metadata of a file, of a task in the registry.
        own_images: see ``get_recipe``.
    """
    kind = card.get("task", "classification")
    try:
        named = get_recipe(card.get("recipe", ""), own_images=own_images)
    except FovealError:
        named = None
    return named if named is not None and named.kind == kind else task_class(kind).described(card)


def list_recipes() -> list[BaseRecipe]:
    """Return all recipes with a fixed name, task by task, without those of ablations."""
    return [make() for make in RECIPES.values()]


def list_ablations() -> list[BaseRecipe]:
    """Return the recipes of all rows of ablations, table by table."""
    return [*ablations.list_recipes()]


def create_task(
    recipe: BaseRecipe,
    data: str | Path | None = None,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    resumes: bool = False,
) -> Task:
    """Create the task of a recipe; see ``Task.create``."""
    task = task_class(recipe.kind)
    return task.create(recipe, data, checkpoint=checkpoint, pretrained=pretrained, resumes=resumes)


def plan_recipe(
    recipe: BaseRecipe,
    data: Path | None = None,
    *,
    images: int | None = None,
    processes: int = 1,
    checkpoint: Path | None = None,
    pretrained: bool = False,
) -> TrainingPlan:
    """Plan training with a recipe; see ``Task.plan``."""
    task = task_class(recipe.kind)
    return task.plan(recipe, data, images=images, processes=processes, checkpoint=checkpoint, pretrained=pretrained)
