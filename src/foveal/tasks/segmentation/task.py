"""The task of segmentation: a segmenter, images with label maps, and a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from foveal.errors import FovealError
from foveal.models import TransNeXt
from foveal.models.weights_file import WeightsSource
from foveal.tasks.dense.counting import count_segmenter
from foveal.tasks.dense.shapes import CLASSES, TRAIN
from foveal.tasks.dense.task import DenseTask, crop_step
from foveal.tasks.held_out import HeldOut
from foveal.tasks.plan import PlannedNetwork, TrainingSet
from foveal.tasks.segmentation.data import (
    ADE20K_CLASSES,
    Augment,
    Augmentation,
    LabelledImages,
    open_train_and_val,
    survey,
)
from foveal.tasks.segmentation.evaluate import evaluate_segmenter
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.recipes import SegmentationRecipe
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.training.processes import Processes


@dataclass(frozen=True)
class TrainedSegmenter:
    """A segmenter and the meaning of its labels."""

    name: str
    model: Segmenter
    classes: list[str]
    """One name per label, in order."""
    inference: Inference
    """How images are presented to it."""
    crop: int
    """Side of the training crops in pixels, to which the sizes of ``inference`` are in proportion."""
    zero_ignored: bool
    """Whether 0 in the label maps that it was trained on is no class."""
    mask_suffix: str | None = None
    """What the names of these label maps have after those of the images."""
    held_out: HeldOut | None = None
    """The images that were drawn for validation, if their folder had no split."""


class SegmentationTask(DenseTask[SegmentationRecipe]):
    """A segmenter, its labelled images, and the recipe that joins them.

    Losses are means over the pixels of a device batch, or over the segments in it (Mask2Former), so the device batch is
    part of a run.
    """

    kind = "segmentation"
    monitor = "miou"
    layout = "in ADE20K's layout, with DIR/images/training, DIR/annotations/training, and the same for validation"
    known_sets = {
        "ade20k": TrainingSet(20_210, len(ADE20K_CLASSES), "ADE20K's training images"),
        "shapes": TrainingSet(TRAIN, 1 + len(CLASSES), "generated shapes on photographs"),
    }
    default_classes = len(ADE20K_CLASSES)
    recipe_class = SegmentationRecipe
    released_recipe = "ade20k.NAME"
    released_classes = ADE20K_CLASSES

    @classmethod
    def open_images(cls, recipe: SegmentationRecipe, data: str | Path | None) -> tuple[LabelledImages, LabelledImages]:
        config = recipe.train
        train, val = open_train_and_val(
            cls.data_folder(recipe, data),
            zero_ignored=recipe.zero_ignored,
            mask_suffix=recipe.mask_suffix,
            val_fraction=config.val_fraction,
            seed=config.seed,
        )
        for images in (train, val):
            survey(images, config.broken)
        train.transform = Augment(recipe.augment)
        return train, val

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return mean IoU, mean accuracy and pixel accuracy in percent; each image counts in its own size.

        ``scored_classes`` of ``classes`` are in the mean IoU, and ``classes_with_examples`` have a pixel: a class
        without one is scored, with 0, where it is predicted. Classes without a pixel are noticed.
        """
        loader, inference = self.validation_loader(processes.share), self.recipe.inference
        segmenter: Any = model  # the loop's, which is the segmenter
        found = evaluate_segmenter(segmenter, loader, self.train.classes, inference, processes, on_batch=on_batch)
        for images in (self.train, self.val):
            images.conclude(processes)
        scores = found.scores
        counts = {"scored_classes": scores.scored, "classes": len(found.classes)}
        return {**found.metrics, **counts, "classes_with_examples": scores.measured}

    def own_metadata(self) -> dict[str, Any]:
        recipe = self.recipe
        suffix = {} if recipe.mask_suffix is None else {"mask_suffix": recipe.mask_suffix}
        held_out = {} if self.val.held_out is None else self.val.held_out.metadata()
        return {
            **super().own_metadata(),
            **suffix,
            **held_out,
            "zero_ignored": recipe.zero_ignored,
            "augmentation": asdict(recipe.augment),
            "inference": asdict(recipe.inference),
        }

    @classmethod
    def planned_network(cls, recipe: SegmentationRecipe, model: Segmenter, images: TrainingSet) -> PlannedNetwork:
        """Count; without memory for Mask2Former, whose matching depends on the content of images."""
        side = recipe.augment.crop
        count = count_segmenter(model, (side, side))

        def step(net: nn.Module, batch: int) -> Any:
            return crop_step(net, batch, side, recipe.train.channels_last)

        matches = recipe.segmenter == "mask2former"
        return PlannedNetwork(size=(side, side), params=count.params, macs=count.macs, step=None if matches else step)

    @classmethod
    def restore(
        cls,
        path: WeightsSource,
        recipe: SegmentationRecipe | None = None,
        *,
        size: int | None = None,
        position_bias: str | None = None,
        reference_size: int | None = None,
    ) -> TrainedSegmenter:
        """Return the segmenter in a file of ``foveal train``, or in a released file that ``recipe`` describes.

        Args:
            size: side of the training crops in pixels, to which all sizes of evaluation are in proportion; None for the
                size of the recipe.
            position_bias: for TransNeXt, "interpolate" or "extrapolate" instead of the mode of training.
            reference_size: for TransNeXt, side of the images that an interpolated position bias is computed for.

        Raises:
            FovealError: the file is missing, broken, not described, or does not fit.
        """
        asked = {"position_bias": position_bias, "reference_size": reference_size}
        given = {name: value for name, value in asked.items() if value is not None}

        def adapt(usual: SegmentationRecipe) -> SegmentationRecipe:
            sized = usual if size is None else usual.with_size(size)
            return replace(sized, options={**sized.options, **given})

        recipe, model, metadata = cls.restore_model(path, recipe, adapt)
        if given and not isinstance(model.backbone.body, TransNeXt):
            option = "--" + next(iter(given)).replace("_", "-")
            raise FovealError(f"{recipe.model} has no position bias, only TransNeXt has: leave {option} out.")
        name, classes = f"{recipe.segmenter} {recipe.model}", cls.class_names(metadata)
        return TrainedSegmenter(
            name,
            model,
            classes,
            recipe.inference,
            recipe.augment.crop,
            recipe.zero_ignored,
            recipe.mask_suffix,
            HeldOut.of(metadata),
        )

    @classmethod
    def own_settings(cls, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "augment": Augmentation(**metadata["augmentation"]),
            "inference": Inference(**metadata["inference"]),
            "zero_ignored": metadata["zero_ignored"],
            "mask_suffix": metadata.get("mask_suffix"),
        }
