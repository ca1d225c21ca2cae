"""``finetune.HEAD_MODEL``: what the recipes of detectors and segmenters for one's own images share.

Their settings follow from the number of images: the smaller the set, the more passes, with the square root, and the
smaller the batches, so that there are enough updates. The learning rate goes with the square root of the batch.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from foveal.models.names import check_model
from foveal.tasks.dense.create import DenseRecipe
from foveal.tasks.fitted import FINETUNE, FittedRecipe, power_of_two, with_sentence

Kind = TypeVar("Kind", bound="FinetuneDenseRecipe")
IMAGES = 300  # for which the number of passes is given
BATCHES = ((200, 4), (2_000, 8))  # below this number of images, this batch
LARGEST_BATCH = 16
USUAL_DROP_PATH = 0.1


@dataclass(frozen=True)
class Passes:
    """Passes over ``IMAGES`` images, and the bounds for other numbers of them."""

    usual: int
    fewest: int
    most: int

    def for_images(self, count: int) -> int:
        return min(max(round(self.usual * math.sqrt(IMAGES / count)), self.fewest), self.most)


@dataclass(frozen=True, kw_only=True)
class FinetuneDenseRecipe(FittedRecipe, DenseRecipe):
    """A recipe of a head on a trained backbone, for any number of images."""

    passes: ClassVar[Passes]

    def for_images(self: Kind, count: int, from_weights: bool) -> Kind:
        """Return the recipe for ``count`` training images."""
        batch = self.train.batch_size if "batch_size" in self.asked else batch_for(count)
        recipe = self.with_chosen(
            epochs=self.passes.for_images(count),
            batch_size=batch,
            lr=float(f"{self.train.lr * math.sqrt(batch / self.train.batch_size):.3g}"),
        )
        return with_sentence(recipe, f"{self.head} on {self.model} for {count:,} images")


def batch_for(count: int) -> int:
    """Return the images of a batch: at most a quarter of them, unless that is less than two."""
    batch = next((batch for most, batch in BATCHES if count < most), LARGEST_BATCH)
    return min(batch, max(power_of_two(count / 4), min(2, count)))


def head_and_model(name: str, heads: Iterable[str]) -> tuple[str, str] | None:
    """Split ``finetune.HEAD_MODEL``; return None if it has none of the heads.

    Raises:
        FovealError: timm has no such model.
    """
    for head in heads:
        prefix = f"{FINETUNE}{head}_"
        if name.startswith(prefix):
            model = name.removeprefix(prefix)
            check_model(model)
            return head, model
    return None


def drop_path_of(model: str, transnext: Mapping[str, float], transxnet: Mapping[str, float]) -> float:
    """Return the stochastic depth of a backbone: as published, by variant of its family, or the usual one."""
    family, _, variant = model.partition("_")
    return {"transnext": transnext, "transxnet": transxnet}.get(family, {}).get(variant, USUAL_DROP_PATH)
