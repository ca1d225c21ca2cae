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
class PhotosRecipe(Recipe):
    """A recipe whose settings follow from the number of images.

    Attributes:
        asked: names of settings that were asked for, and stay as they are.
    """

    usual_val_fraction: ClassVar[float | None] = 0.2
    asked: tuple[str, ...] = ()

    def with_size(self, size: int) -> "PhotosRecipe":
        return replace(self, fit=replace(self.fit, size=(size, size)), asked=self._asking("size"))

    def with_drop_path(self, rate: float) -> "PhotosRecipe":
        return replace(self, drop_path=rate, asked=self._asking("drop_path"))

    def with_augmentation(self, strength: Strength | None = None, **settings: Any) -> "PhotosRecipe":
        asked = {*settings, *({} if strength is None else STRENGTHS[strength])}
        return replace(super().with_augmentation(strength, **settings), asked=self._asking(*asked))

    def with_training(self, **settings: Any) -> "PhotosRecipe":
        return replace(super().with_training(**settings), asked=self._asking(*settings))

    def _asking(self, *names: str) -> tuple[str, ...]:
        return tuple(sorted({*self.asked, *names}))

    def for_images(self, count: int, from_weights: bool) -> "PhotosRecipe":
        """Return the recipe for ``count`` training images, starting from random or trained weights."""
        side = _side(count, from_weights) if "size" not in self.asked else min(self.fit.size)
        batch = self.train.batch_size if "batch_size" in self.asked else _batch(count)
        chosen: dict[str, Any] = {
            "batch_size": batch,
            "epochs": _passes(count, from_weights),
            "lr": round((RATE_TUNED if from_weights else RATE) * math.sqrt(batch / LARGEST_BATCH), 6),
            "layer_decay": 0.75 if from_weights else None,
        }
        settings = {name: value for name, value in chosen.items() if name not in self.asked}
        if "warmup_epochs" not in self.asked:
            epochs = settings.get("epochs", self.train.epochs)
            settings["warmup_epochs"] = min(max(1, epochs // 10), epochs - 1)
        strong: dict[str, Any] = {"mixup": 0.2, "erasing": 0.1} if count >= MANY else {"mixup": 0.0, "erasing": 0.0}
        strong = {name: value for name, value in strong.items() if name not in self.asked}
        many, fresh_transnext = count >= MANY, self.model.startswith("transnext") and not from_weights
        recipe = super().with_training(**settings)
        return replace(
            recipe,
            fit=replace(self.fit, size=(side, side)),
            augment=replace(self.augment, **strong),
            drop_path=self.drop_path if "drop_path" in self.asked else 0.1 if many or from_weights else 0.0,
            # Its position bias is scaled to the images that it is trained on.
            model_args={**self.model_args, **({"pretrain_size": side} if fresh_transnext else {})},
            summary=_summary(count, from_weights, side, recipe.train),
            asked=self.asked,
        )


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
    """Return the largest power of two that is at most an eighth of the images, from 4 to 64."""
    return min(max(2 ** int(math.log2(max(count / 8, 1))), 4), LARGEST_BATCH)


def _summary(count: int, from_weights: bool, side: int, train: TrainConfig) -> str:
    start = "trained" if from_weights else "random"
    return (
        f"for {count:,} photographs, from {start} weights: {side} pixels, {train.epochs} passes, batches of "
        f"{train.batch_size}, learning rate {train.lr:g}"
    )
