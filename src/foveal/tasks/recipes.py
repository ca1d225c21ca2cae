"""The recipes of all tasks by name, and the task that each of them is carried out by."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from foveal.tasks.classification import recipes as classification
from foveal.tasks.detection import recipes as detection
from foveal.tasks.plan import RecipePlan
from foveal.tasks.recipe import BaseRecipe, look_up
from foveal.tasks.segmentation import recipes as segmentation
from foveal.training.task import Task

RECIPES: dict[str, Callable[[], BaseRecipe]] = {
    **classification.RECIPES,
    **detection.RECIPES,
    **segmentation.RECIPES,
}


def get_recipe(name: str) -> BaseRecipe:
    """The recipe called ``name``; ``finetune.MODEL`` exists for every model of timm.

    Raises:
        FovealError: there is none; the sentence gives near names and the command that lists all.
    """
    if name.startswith(classification.FINETUNE):
        return classification.get_recipe(name)
    return look_up(name, RECIPES)


def list_recipes() -> list[BaseRecipe]:
    """All recipes with a name of their own, task by task."""
    return [make() for make in RECIPES.values()]


def create_task(
    recipe: BaseRecipe,
    data: str | Path | None = None,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    resumes: bool = False,
    needs_drop_path: bool = False,
) -> Task:
    """Check the images, make the network, and start it from weights where some are given; see each task's own."""
    return _of(recipe, "task").create_task(
        recipe,
        data,
        checkpoint=checkpoint,
        pretrained=pretrained,
        resumes=resumes,
        needs_drop_path=needs_drop_path,
    )


def plan_recipe(
    recipe: BaseRecipe,
    data: Path | None = None,
    *,
    images: int | None = None,
    processes: int = 1,
    needs_drop_path: bool = False,
) -> RecipePlan:
    """What training by ``recipe`` would do; see each task's own."""
    return _of(recipe, "plan").plan_recipe(
        recipe, data, images=images, processes=processes, needs_drop_path=needs_drop_path
    )


def _of(recipe: BaseRecipe, module: str) -> ModuleType:
    """A module of the recipe's task."""
    return importlib.import_module(f"foveal.tasks.{recipe.kind}.{module}")
