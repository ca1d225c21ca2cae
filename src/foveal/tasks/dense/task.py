"""The task of a head on a backbone: what detection and segmentation share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsFile, WeightsSource
from foveal.tasks.dense.create import DenseRecipe
from foveal.tasks.dense.model import DenseModel
from foveal.tasks.dense.released import load_dense, of_backbone, start_from
from foveal.tasks.dense.shapes import shapes_folder
from foveal.tasks.registry import check_kind, noun
from foveal.tasks.task import Task
from foveal.training.config import TrainConfig

R = TypeVar("R", bound=DenseRecipe)


class DenseTask(Task[R]):
    """A detector or segmenter, its images, and the recipe that joins them."""

    starts_from = "a trained backbone"
    own_images = {"shapes": shapes_folder}
    recipe_class: ClassVar[Any]
    released_recipe: ClassVar[str]
    """What names the recipe of a released file, for the error if no recipe is given."""
    released_classes: ClassVar[Sequence[str]]

    model: DenseModel

    @classmethod
    def build(cls, recipe: R, num_classes: int, pretrained: bool) -> DenseModel:
        model: DenseModel = recipe.create(num_classes, pretrained_backbone=pretrained)
        return model

    @classmethod
    def load_start(cls, model: DenseModel, checkpoint: WeightsSource) -> LoadReport:
        return start_from(model, checkpoint)

    @classmethod
    def released_start(cls, model: DenseModel) -> LoadReport:
        names = [name for name in model.backbone.body.state_dict() if ".feature_norm." not in name]
        return of_backbone(model, LoadReport(loaded=tuple(names)))

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the losses of a batch, and each of them."""
        images, targets = batch
        losses = model(images, targets)
        return sum_losses(losses), self.model.summary(losses)

    def own_metadata(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            noun(self.kind): recipe.head,
            "options": recipe.options,
            "frozen_stages": recipe.frozen_stages,
        }

    @classmethod
    def restore_model(
        cls, source: WeightsSource, recipe: R | None, adapt: Callable[[R], R]
    ) -> tuple[R, Any, dict[str, Any] | None]:
        """Return the recipe, the filled model and the metadata of a file of weights.

        Args:
            source: a file of ``foveal train``, which holds its recipe, or a released one.
            recipe: the recipe of a released file.
            adapt: applied to the recipe before the model is created.

        Raises:
            FovealError: the file is missing, broken, not described, or does not fit.
        """
        file = WeightsFile.open(source)
        metadata = file.metadata
        if metadata is not None:
            check_kind(metadata, file.path, cls.kind)
            recipe = cls.described(metadata)
        elif recipe is None:
            raise FovealError(
                f"{file.path} does not say which {noun(cls.kind)} it holds: pass the recipe, as in "
                f"{cls.released_recipe}."
            )
        recipe = adapt(recipe)
        model = recipe.create(len(cls.class_names(metadata)))
        load_dense(model, file)
        return recipe, model.eval(), metadata

    @classmethod
    def described(cls, metadata: Mapping[str, Any]) -> R:
        same = {name: metadata[name] for name in (noun(cls.kind), "options", "model", "model_args")}
        own = cls.own_settings(metadata)
        return cls.recipe_class(name=metadata["recipe"], summary="", train=TrainConfig(), **same, **own)

    @classmethod
    def own_settings(cls, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the recipe that only this task has, from the metadata of a file."""
        raise NotImplementedError

    @classmethod
    def class_names(cls, metadata: dict[str, Any] | None) -> list[str]:
        """Return the classes of a file, or of the released ones if it has no metadata."""
        return list(cls.released_classes) if metadata is None else metadata["classes"]


def sum_losses(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of all losses, a scalar."""
    return torch.stack(list(losses.values())).sum()


def crop_step(model: nn.Module, batch: int, side: int, channels_last: bool) -> Tensor:
    """Return the loss of a batch of square crops with one label per pixel, both without content."""
    pixels = torch.empty(batch, 3, side, side)
    if channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return sum_losses(model(pixels, torch.empty(batch, side, side, dtype=torch.long)))
