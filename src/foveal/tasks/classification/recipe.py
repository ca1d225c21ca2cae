"""A classification recipe: a model, its images' treatment and its training settings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from foveal.tasks.classification.names import Strength
from foveal.tasks.classification.preprocessing import STRENGTHS, Augmentation, Preprocessing
from foveal.tasks.recipe import BaseRecipe

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """A model, its images' treatment and its training settings."""

    kind: ClassVar[str] = "classification"
    fit: Preprocessing
    augment: Augmentation
    usual_val_fraction: ClassVar[float | None] = None
    """Share of the images for validation where there is no validation split and ``train.val_fraction`` is unset."""

    def with_size(self, size: int) -> "Recipe":
        """The recipe for square images of this side."""
        return replace(self, fit=replace(self.fit, size=(size, size)))

    def with_augmentation(self: R, strength: Strength | None = None, **settings: Any) -> R:
        """Return the recipe with another augmentation.

        Args:
            strength: a row of ``STRENGTHS``; None keeps that of the recipe.
            settings: fields of ``Augmentation``.
        """
        strong = {} if strength is None else STRENGTHS[strength]
        return replace(self, augment=replace(self.augment, **{**strong, **settings}))
