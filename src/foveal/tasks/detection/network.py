"""Detectors restored from a file with all that belongs to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile, WeightsSource
from foveal.tasks.card import check_task
from foveal.tasks.dense.released import load_dense
from foveal.tasks.detection.coco_classes import COCO_CLASSES
from foveal.tasks.detection.data.augment import Augmentation
from foveal.tasks.detection.detector import Detector
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.training.config import TrainConfig


@dataclass(frozen=True)
class KnownDetector:
    """A detector with the meaning of its answers."""

    name: str
    model: Detector
    classes: list[str]
    """One name a label, in order."""
    category_ids: list[int]
    """The id of each label in COCO's annotations."""


def restore_detector(
    path: WeightsSource, recipe: DetectionRecipe | None = None, *, size: int | None = None
) -> KnownDetector:
    """The detector in a file. One of ``foveal train`` says itself what it is; a released one is as ``recipe`` tells.

    Args:
        size: short side that images are fitted to; the usual one if left out.

    Raises:
        FovealError: the file is missing, broken, not described, or does not fit.
    """
    file = WeightsFile.open(path)
    card = file.metadata
    if card is not None:
        recipe, ids, names = _described(card, file.path), card["category_ids"], card["classes"]
    elif recipe is not None:
        ids, names = list(COCO_CLASSES), list(COCO_CLASSES.values())
    else:
        raise FovealError(f"{file.path} does not say which detector it holds: pass the recipe, as in coco.NAME.")
    chosen = recipe if size is None else recipe.with_size(size)
    model = chosen.create(len(names))
    load_dense(model, file)
    return KnownDetector(f"{chosen.detector} {chosen.model}", model.eval(), names, ids)


def _described(card: dict[str, Any], path: Path) -> DetectionRecipe:
    """The recipe that a file was trained by, as far as evaluation needs it."""
    check_task(card, path, DetectionRecipe.kind)
    return DetectionRecipe(
        name=card["recipe"],
        summary="",
        detector=card["detector"],
        options=card["options"],
        model=card["model"],
        model_args=card["model_args"],
        augment=Augmentation(),
        train=TrainConfig(),
    )
