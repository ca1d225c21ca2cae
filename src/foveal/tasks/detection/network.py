"""Detectors started from weights, or restored from a file with all that belongs to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.models.released import CheckpointError, unwrap, without_wrappers
from foveal.tasks.detection.coco_classes import COCO_CLASSES
from foveal.tasks.detection.data.augment import Augmentation
from foveal.tasks.detection.detector import Detector
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.detection.released import load_detector
from foveal.training.checkpoint import read_card, read_content
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


def start_from(model: Detector, path: Path) -> None:
    """Fill a detector's backbone from a classifier's file, or all of it from a detector's; layers for other classes
    stay new.

    Raises:
        FovealError: the file is missing, broken, or does not fit.
    """
    if _holds_detector(path):
        load_detector(model, path, new_classes=True)
    else:
        model.backbone.load(path)


def restore_detector(path: Path, recipe: DetectionRecipe | None = None, *, size: int | None = None) -> KnownDetector:
    """The detector in a file. One of ``foveal train`` says itself what it is; a released one is as ``recipe`` tells.

    Args:
        size: short side that images are fitted to; the usual one if left out.

    Raises:
        FovealError: the file is missing, broken, not described, or does not fit.
    """
    card = read_card(path)
    if card is not None:
        recipe, ids, names = _described(card, path), card["category_ids"], card["classes"]
    elif recipe is not None:
        ids, names = list(COCO_CLASSES), list(COCO_CLASSES.values())
    else:
        raise FovealError(f"{path} does not say which detector it holds: pass the recipe, as in coco.NAME.")
    chosen = recipe if size is None else recipe.with_size(size)
    model = chosen.create(len(names))
    load_detector(model, path)
    return KnownDetector(f"{chosen.detector} {chosen.model}", model.eval(), names, ids)


def _described(card: dict[str, Any], path: Path) -> DetectionRecipe:
    """The recipe that a file was trained by, as far as evaluation needs it."""
    if card.get("task") != DetectionRecipe.kind:
        raise FovealError(
            f"{path} holds a classifier ({card['model']}), and no detector: pass the recipe that it was trained by."
        )
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


def _holds_detector(path: Path) -> bool:
    """Whether a file has more than a backbone in it: names behind ``backbone.``, and others."""
    try:
        names = without_wrappers(unwrap(read_content(path)))
    except CheckpointError as error:
        raise FovealError(f"{path}: {error}.") from error
    behind = [name.startswith("backbone.") for name in names]
    return any(behind) and not all(behind)
