"""Recipes whose settings follow from the number of images, except those that were asked for."""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from foveal.tasks.recipe import BaseRecipe

FINETUNE = "finetune."  # what the names of recipes for any trained network begin with
Kind = TypeVar("Kind", bound="FittedRecipe")


@dataclass(frozen=True, kw_only=True)
class FittedRecipe(BaseRecipe):
    """A recipe that ``for_images`` fits to a number of images; to be combined with the recipe of a task.

    Attributes:
        asked: names of settings that were asked for, and stay as they are, in alphabetical order.
    """

    asked: tuple[str, ...] = ()

    def asking(self, *names: str) -> tuple[str, ...]:
        """Return the names of all settings that are asked for if these are, too."""
        return tuple(sorted({*self.asked, *names}))

    def with_size(self: Kind, size: int) -> Kind:
        return replace(super().with_size(size), asked=self.asking("size"))

    def with_drop_path(self: Kind, rate: float) -> Kind:
        return replace(super().with_drop_path(rate), asked=self.asking("drop_path"))

    def with_training(self: Kind, **settings: Any) -> Kind:
        return replace(super().with_training(**settings), asked=self.asking(*settings))

    def with_chosen(self: Kind, **settings: Any) -> Kind:
        """Return the recipe with the training settings of these that were not asked for."""
        chosen = {name: value for name, value in settings.items() if name not in self.asked}
        return replace(super().with_training(**chosen), asked=self.asked)


def power_of_two(most: float) -> int:
    """Return the largest power of two that is at most ``most``, and at least 1."""
    return 2 ** int(math.log2(max(most, 1)))


def with_sentence(recipe: Kind, what: str) -> Kind:
    """Return the recipe with a summary of what was chosen: ``what``, then its passes, batch and rate."""
    train = recipe.train
    chosen = f"{train.epochs} passes, batches of {train.batch_size}, learning rate {train.lr:g}"
    return replace(recipe, summary=f"{what}, {chosen}")
