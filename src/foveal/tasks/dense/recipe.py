"""What recipes of detectors and segmenters have in common: a head on a backbone, and how one is made and started."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from foveal.tasks.dense.model import DenseModel
from foveal.tasks.dense.released import start_from
from foveal.tasks.network import create_by_recipe
from foveal.tasks.recipe import BaseRecipe
from foveal.training.seeding import mix, seed_everything

Kind = TypeVar("Kind", bound="DenseRecipe")


@dataclass(frozen=True, kw_only=True)
class DenseRecipe(BaseRecipe):
    """A head on a backbone (``model``)."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``create_detector`` or ``create_segmenter``, in plain types."""
    frozen_stages: int = 0
    """So many of the backbone's stages keep the weights that they start from."""

    def create(self, num_classes: int, *, pretrained_backbone: bool = False) -> Any:
        """The detector or segmenter, new.

        Raises:
            FovealError: a backbone that does not exist, or one that the options do not suit.
        """
        return self._create_head(
            num_classes,
            pretrained_backbone=pretrained_backbone,
            drop_path=self.drop_path,
            frozen_stages=self.frozen_stages,
            backbone_args=self.model_args,
            **self.options,
        )

    def _create_head(self, num_classes: int, **settings: Any) -> DenseModel:
        raise NotImplementedError


def create_model(
    recipe: Kind, num_classes: int, *, pretrained: bool = False, needs_drop_path: bool = False
) -> tuple[Kind, Any]:
    """The recipe's model, and the recipe as it was made: without drop path where the backbone has none.

    Args:
        needs_drop_path: refuse a backbone without stochastic depth.
    """
    return create_by_recipe(recipe, lambda of: of.create(num_classes, pretrained_backbone=pretrained), needs_drop_path)


def start_model(
    recipe: Kind, num_classes: int, checkpoint: Path | None, pretrained: bool, needs_drop_path: bool
) -> tuple[Kind, Any]:
    """As ``create_model``, with first weights that follow from the recipe's seed, or from a file where one is given.

    Raises:
        FovealError: the file is missing, broken, or does not fit.
    """
    seed_everything(mix(recipe.train.seed, "weights"))
    recipe, model = create_model(recipe, num_classes, pretrained=pretrained, needs_drop_path=needs_drop_path)
    if checkpoint is not None:
        start_from(model, checkpoint)
    return recipe, model
