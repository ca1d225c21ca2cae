"""``photos.MODEL``: a recipe for one's own photographs, whose settings follow from their number.

What is chosen, where it is not asked for by name:

- from random weights, small images, since a small set teaches a network little about detail: 96 pixels below 1,000
  images, 128 below 10,000, 224 above; from trained weights 224 pixels;
- passes such that the smallest sets are seen often enough: 20,000 views for 300 images, growing with the power 3/4 of
  their number, and at least 30 passes (10 from trained weights, with a third of the views);
- an eighth of the images at most in a batch, and a learning rate that grows with the square root of the batch;
- mixup, random erasing and stochastic depth from 5,000 images on.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from foveal.models.names import check_model
from foveal.tasks.classification.names import Strength
from foveal.tasks.classification.preprocessing import STRENGTHS, Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.fitted import FittedRecipe, power_of_two, with_sentence
from foveal.training.config import TrainConfig

PHOTOS = "photos."
SIDES = ((1_000, 96), (10_000, 128))  # below this number of images, this side in pixels
LARGEST_SIDE = 224
VIEWS, IMAGES, GROWTH = 20_000, 300, 0.75
FEWEST_PASSES, MOST_PASSES = 30, 100
FEWEST_PASSES_TUNED, VIEWS_TUNED = 10, 1 / 3
LARGEST_BATCH = 64
RATE, RATE_TUNED = 1e-3, 3e-4  # of a batch of 64
MANY = 5_000  # images that strong augmentation does not harm


@dataclass(frozen=True, kw_only=True)
class PhotosRecipe(FittedRecipe, Recipe):
    """A recipe whose settings follow from the number of images."""

    usual_val_fraction: ClassVar[float | None] = 0.2

    def with_augmentation(self, strength: Strength | None = None, **settings: Any) -> "PhotosRecipe":
        asked = {*settings, *({} if strength is None else STRENGTHS[strength])}
        return replace(super().with_augmentation(strength, **settings), asked=self.asking(*asked))

    def for_images(self, count: int, from_weights: bool) -> "PhotosRecipe":
        """Return the recipe for ``count`` training images, starting from random or trained weights."""
        side = _side(count, from_weights) if "size" not in self.asked else min(self.fit.size)
        batch = self.train.batch_size if "batch_size" in self.asked else _batch(count)
        epochs = self.train.epochs if "epochs" in self.asked else _passes(count, from_weights)
        strong: dict[str, Any] = {"mixup": 0.2, "erasing": 0.1} if count >= MANY else {"mixup": 0.0, "erasing": 0.0}
        strong = {name: value for name, value in strong.items() if name not in self.asked}
        many, fresh_transnext = count >= MANY, self.model.startswith("transnext") and not from_weights
        recipe = self.with_chosen(
            batch_size=batch,
            epochs=epochs,
            lr=round((RATE_TUNED if from_weights else RATE) * math.sqrt(batch / LARGEST_BATCH), 6),
            layer_decay=0.75 if from_weights else None,
            warmup_epochs=min(max(1, epochs // 10), epochs - 1),
        )
        recipe = replace(
            recipe,
            fit=replace(self.fit, size=(side, side)),
            augment=replace(self.augment, **strong),
            drop_path=self.drop_path if "drop_path" in self.asked else 0.1 if many or from_weights else 0.0,
            # Its position bias is scaled to the images that it is trained on.
            model_args={**self.model_args, **({"pretrain_size": side} if fresh_transnext else {})},
        )
        start = "trained" if from_weights else "random"
        return with_sentence(recipe, f"for {count:,} photographs, from {start} weights: {side} pixels")


def photos_recipe(model: str) -> PhotosRecipe:
    """Return the recipe for a model of timm or foveal. Raises FovealError if there is none of this name."""
    check_model(model)
    return PhotosRecipe(
        name=PHOTOS + model,
        summary=f"{model} on photographs of one's own, with settings that follow from their number",
        model=model,
        fit=Preprocessing(size=(LARGEST_SIDE, LARGEST_SIDE), crop=0.95, whole_from=None),
        augment=Augmentation(
            crop_scale=(0.35, 1.0), color_jitter=0.2, rand_augment="rand-m5-n1-mstd0.5-inc1", erasing=0.0, mixup=0.0,
            cutmix=0.0,
        ),
        train=TrainConfig(
            epochs=FEWEST_PASSES, batch_size=LARGEST_BATCH, lr=RATE, min_lr=1e-6, warmup_epochs=3, warmup_lr=1e-6,
            weight_decay=0.05, clip_norm=1.0, workers=4, log_every=1,
        ),
    )  # fmt: skip


def _side(count: int, from_weights: bool) -> int:
    if from_weights:
        return LARGEST_SIDE
    return next((side for most, side in SIDES if count < most), LARGEST_SIDE)


def _passes(count: int, from_weights: bool) -> int:
    views = VIEWS * (count / IMAGES) ** GROWTH * (VIEWS_TUNED if from_weights else 1)
    fewest = FEWEST_PASSES_TUNED if from_weights else FEWEST_PASSES
    return min(max(round(views / count), fewest), MOST_PASSES)


def _batch(count: int) -> int:
    """Return an eighth of the images as a power of two from 4 to 64, and no more than there are."""
    return min(max(power_of_two(count / 8), 4), power_of_two(count), LARGEST_BATCH)
