"""``finetune.MODEL``: a recipe for a few thousand images of one's own, from trained weights."""

import math
from dataclasses import dataclass
from typing import ClassVar

from foveal.models.names import check_model
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.fitted import FINETUNE, FittedRecipe, power_of_two
from foveal.training.config import TrainConfig

BATCH, RATE = 64, 5e-4


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(FittedRecipe, Recipe):
    """A recipe that has smaller batches where there are too few images for its own."""

    usual_val_fraction: ClassVar[float | None] = 0.2

    def for_images(self, count: int, from_weights: bool) -> "FinetuneRecipe":
        """Return the recipe for ``count`` training images: itself, if they fill a batch."""
        if count >= BATCH or "batch_size" in self.asked:
            return self
        batch = power_of_two(count / 4)
        return self.with_chosen(batch_size=batch, lr=round(RATE * math.sqrt(batch / BATCH), 6))


def finetune_recipe(model: str) -> FinetuneRecipe:
    """Return the recipe for a model of timm or foveal: lower layers learn slowly, and images stay recognisable.

    Raises:
        FovealError: there is no model of this name.
    """
    check_model(model)
    return FinetuneRecipe(
        name=FINETUNE + model,
        summary=f"fine-tuning {model} on a folder of one's own",
        model=model,
        fit=Preprocessing(size=(224, 224)),
        augment=Augmentation(
            crop_scale=(0.35, 1.0), rand_augment="rand-m5-mstd0.5-inc1", erasing=0.0, mixup=0.0, cutmix=0.0,
        ),
        train=TrainConfig(
            epochs=30, batch_size=BATCH, lr=RATE, min_lr=1e-6, warmup_epochs=3, warmup_lr=1e-6, weight_decay=0.05,
            layer_decay=0.75, clip_norm=1.0, workers=4,
        ),
        drop_path=0.1,
        starts_from_weights=True,
    )  # fmt: skip
