"""The task of detection: a detector, images in COCO's layout, and a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from foveal.errors import FovealError
from foveal.models.weights_file import WeightsSource
from foveal.tasks.dense.counting import count_detector
from foveal.tasks.dense.shapes import CLASSES, TRAIN
from foveal.tasks.dense.task import DenseTask
from foveal.tasks.detection.data import Augment, Augmentation, CocoImages, Empty, collate, open_train_and_val
from foveal.tasks.detection.data.coco_file import COCO_CLASSES
from foveal.tasks.detection.detector import Detector
from foveal.tasks.detection.evaluate import evaluate_detector
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.detection.rle import coco_tools
from foveal.tasks.held_out import HeldOut
from foveal.tasks.plan import PlannedNetwork, TrainingSet
from foveal.training.processes import Processes

HEADLINES = ("box_ap", "mask_ap")  # the metrics that come first
EVERY_IMAGE = TrainingSet(118_287, len(COCO_CLASSES), "COCO train2017")


@dataclass(frozen=True)
class TrainedDetector:
    """A detector and the meaning of its labels."""

    name: str
    model: Detector
    classes: list[str]
    """One name per label, in order."""
    category_ids: list[int]
    """The id of each label in COCO's annotations."""
    held_out: HeldOut | None = None
    """Its validation images, if they were drawn from a folder without a split."""


class DetectionTask(DenseTask[DetectionRecipe]):
    """A detector, its images, and the recipe that joins them.

    Images of a device batch are padded to one size, and their losses are divided by counts over the batch, so the
    device batch is part of a run. Two processes learn the same as one if both see the same batches: single images are
    not the same as pairs. Each process draws its own random numbers (samples of Mask R-CNN, noise of DINO). Only DINO
    divides by a count over all processes.
    """

    kind = "detection"
    monitor = "box_ap"
    layout = (
        "in COCO's layout, with DIR/annotations/instances_train2017.json, DIR/train2017, and the same for val2017; or "
        "an export of Roboflow, Label Studio, CVAT or YOLO"
    )
    known_sets = {
        "coco": TrainingSet(117_266, len(COCO_CLASSES), "COCO train2017, those with an object"),
        "shapes": TrainingSet(TRAIN, len(CLASSES), "generated shapes on photographs"),
    }
    default_classes = len(COCO_CLASSES)
    recipe_class = DetectionRecipe
    released_recipe = "coco.NAME"
    released_classes = tuple(COCO_CLASSES.values())
    collate = staticmethod(collate)

    @classmethod
    def check_recipe(cls, recipe: DetectionRecipe) -> None:
        if recipe.train.compile:
            raise FovealError(
                "Detectors cannot be compiled, since shapes depend on the detected objects: leave --compile out."
            )

    @classmethod
    def open_images(cls, recipe: DetectionRecipe, data: str | Path | None) -> tuple[CocoImages, CocoImages]:
        empty: Empty = "keep" if recipe.keep_empty else "drop"
        masks = recipe.detector == "mask_rcnn"
        coco_tools()  # evaluation needs them, and an epoch would be lost without
        config = recipe.train
        train, val = open_train_and_val(
            cls.data_folder(recipe, data),
            masks,
            config.broken,
            empty,
            val_fraction=config.val_fraction,
            seed=config.seed,
        )
        train.transform = Augment(recipe.augment)
        return train, val

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return the average precision of boxes, and of masks if the detector predicts them, in percent; and over how
        many classes they are means, if not over all.

        Images are evaluated one by one, as in the published evaluations: the result does not depend on the padding that
        other images of a batch need, nor on the number of processes.
        """
        loader = self.validation_loader(processes.share)
        found = evaluate_detector(model, loader, self.val, processes, on_batch=on_batch)
        scored, others = len(found.box.classes), len(found.box.without_objects)
        scope = {"scored_classes": scored, "classes": scored + others} if others else {}
        return {**dict(sorted(found.metrics.items(), key=lambda metric: metric[0] not in HEADLINES)), **scope}

    def own_metadata(self) -> dict[str, Any]:
        ids, augment = self.train.category_ids, asdict(self.recipe.augment)
        drawn = {} if self.val.held_out is None else self.val.held_out.metadata()
        return {**super().own_metadata(), "category_ids": ids, "augmentation": augment, **drawn}

    @classmethod
    def known_set(cls, recipe: DetectionRecipe) -> TrainingSet | None:
        known = super().known_set(recipe)
        return EVERY_IMAGE if recipe.keep_empty and known is cls.known_sets["coco"] else known

    @classmethod
    def planned_network(cls, recipe: DetectionRecipe, model: Detector, images: TrainingSet) -> PlannedNetwork:
        """Count without memory, which depends on the sizes and the content of images."""
        short, long = recipe.sides
        size = (short, min(long, short * 8 // 5))  # as in the papers' tables: 800 x 1280
        count = count_detector(model, size)
        return PlannedNetwork(size=size, params=count.params, macs=count.macs, sides=_describe(recipe.augment))

    @classmethod
    def restore(
        cls, path: WeightsSource, recipe: DetectionRecipe | None = None, *, size: int | None = None
    ) -> TrainedDetector:
        """Return the detector in a file of ``foveal train``, or in a released file that ``recipe`` describes.

        Args:
            size: short side that images are resized to, in pixels; None for the size of the recipe.

        Raises:
            FovealError: the file is missing, broken, not described, or does not fit.
        """
        recipe, model, metadata = cls.restore_model(path, recipe, lambda of: of if size is None else of.with_size(size))
        ids = list(COCO_CLASSES) if metadata is None else metadata["category_ids"]
        name, held_out = f"{recipe.detector} {recipe.model}", HeldOut.of(metadata)
        return TrainedDetector(name, model, cls.class_names(metadata), ids, held_out)

    @classmethod
    def own_settings(cls, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {"augment": Augmentation()}


def _describe(augment: Augmentation) -> str:
    """Return the range of training image sizes in words."""
    if not augment.short:
        return "as they are" if augment.scale == (1, 1) else "times {:g} to {:g}".format(*augment.scale)
    first, last = min(augment.short), max(augment.short)
    short = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    return f"short side {short} pixels, long side at most {augment.long:,}"
