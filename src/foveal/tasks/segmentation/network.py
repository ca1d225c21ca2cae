"""Segmenters restored from a file with all that belongs to them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.models import TransNeXt
from foveal.models.weights_file import WeightsFile, WeightsSource
from foveal.tasks.card import check_task
from foveal.tasks.dense.released import load_dense
from foveal.tasks.segmentation.data import ADE20K_CLASSES, Augmentation
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.recipe import SegmentationRecipe
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.training.config import TrainConfig


@dataclass(frozen=True)
class KnownSegmenter:
    """A segmenter with the meaning of its answers."""

    name: str
    model: Segmenter
    classes: list[str]
    """One name a label, in order."""
    inference: Inference
    """How images are shown to it."""
    zero_ignored: bool
    """Whether the label maps that it was trained on have no class 0."""


def restore_segmenter(
    path: WeightsSource,
    recipe: SegmentationRecipe | None = None,
    *,
    size: int | None = None,
    position_bias: str | None = None,
    reference_size: int | None = None,
) -> KnownSegmenter:
    """The segmenter in a file. One of ``foveal train`` says itself what it is; a released one is as ``recipe`` tells.

    Args:
        size: side of the crops that it was trained on, which sizes of evaluation are in proportion to; the recipe's if
            left out.
        position_bias: of a TransNeXt, "interpolate" or "extrapolate" instead of how it was trained.
        reference_size: of a TransNeXt: side of the images that an interpolated position bias is computed for.

    Raises:
        FovealError: the file is missing, broken, not described, or does not fit.
    """
    file = WeightsFile.open(path)
    card = file.metadata
    if card is not None:
        recipe, classes = _described(card, file.path), card["classes"]
    elif recipe is not None:
        classes = list(ADE20K_CLASSES)
    else:
        raise FovealError(f"{file.path} does not say which segmenter it holds: pass the recipe, as in ade20k.NAME.")
    chosen = recipe if size is None else recipe.with_size(size)
    asked = {"position_bias": position_bias, "reference_size": reference_size}
    given = {name: value for name, value in asked.items() if value is not None}
    chosen = replace(chosen, options={**chosen.options, **given})
    model = chosen.create(len(classes))
    if given and not isinstance(model.backbone.body, TransNeXt):
        option = "--" + next(iter(given)).replace("_", "-")
        raise FovealError(f"{chosen.model} has no position bias, TransNeXt alone has: leave {option} out.")
    load_dense(model, file)
    name = f"{chosen.segmenter} {chosen.model}"
    return KnownSegmenter(name, model.eval(), classes, chosen.inference, chosen.zero_ignored)


def _described(card: dict[str, Any], path: Path) -> SegmentationRecipe:
    """The recipe that a file was trained by, as far as evaluation needs it."""
    check_task(card, path, SegmentationRecipe.kind)
    return SegmentationRecipe(
        name=card["recipe"],
        summary="",
        segmenter=card["segmenter"],
        options=card["options"],
        model=card["model"],
        model_args=card["model_args"],
        augment=Augmentation(**card["augmentation"]),
        inference=Inference(**card["inference"]),
        zero_ignored=card["zero_ignored"],
        train=TrainConfig(),
    )
