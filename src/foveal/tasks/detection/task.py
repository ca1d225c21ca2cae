"""Detection as the loop sees it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.dense.recipe import start_model
from foveal.tasks.dense.shapes import shapes_folder
from foveal.tasks.detection.data import Augment, CocoImages, collate, open_train_and_val
from foveal.tasks.detection.data.coco import Empty
from foveal.tasks.detection.detector import Detector
from foveal.tasks.detection.evaluate import evaluate_detector
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.recipe import check_start
from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader, evaluation_loader, train_loader
from foveal.training.processes import Processes

HEADLINES = ("box_ap", "mask_ap")  # the metrics that come first


class DetectionTask:
    """A detector, its images, and the recipe that joins them. Fulfils ``foveal.training.Task``.

    Images of a device batch are padded to one size, and what their losses are divided by is counted over the batch. So
    its size is part of a run, and two processes learn the same as one where both see the same batches: one image at a
    time, for others are not the same in pairs. What a detector draws (Mask R-CNN its samples, DINO its noise) each
    process draws for itself. DINO alone divides by a count over all processes.
    """

    monitor = "box_ap"
    higher_is_better = True
    mixes = True

    def __init__(self, recipe: DetectionRecipe, model: Detector, train: CocoImages, val: CocoImages) -> None:
        self.recipe, self.model, self.train, self.val = recipe, model, train, val
        self.train_size = len(train)
        self.notices = [notice for images in (train, val) for notice in notices_of(images)]
        self._val_loader: Loader | None = None

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        return train_loader(
            self.train,
            batching.device,
            draws,
            share,
            config.seed,
            config.workers,
            collate=collate,
            broken=config.broken,
            pass_by_pass=config.epoch_steps is not None,
        )

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the detector's losses, and each of them."""
        images, targets = batch
        losses = model(images, targets)
        return torch.stack(list(losses.values())).sum(), self.model.summary(losses)

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Average precision of boxes, and of masks where the detector finds them, in percent; each image once.

        Images come one by one, as in the published evaluations: what is found on one does not depend on the padding
        that its neighbours need, and the figures not on the number of processes.
        """
        found = evaluate_detector(model, self._validation(processes.share), self.val, processes, on_batch=on_batch)
        return dict(sorted(found.metrics.items(), key=lambda metric: metric[0] not in HEADLINES))

    def _validation(self, share: Share) -> Loader:
        if self._val_loader is None:
            config = self.recipe.train
            self._val_loader = evaluation_loader(
                self.val, 1, share, config.workers, collate=collate, broken=config.broken
            )
        return self._val_loader

    def card(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "task": recipe.kind,
            "recipe": recipe.name,
            "detector": recipe.detector,
            "options": recipe.options,
            "model": recipe.model,
            "model_args": recipe.model_args,
            "classes": self.train.classes,
            "category_ids": self.train.category_ids,
            "augmentation": asdict(recipe.augment),
            "drop_path": recipe.drop_path,
            "frozen_stages": recipe.frozen_stages,
        }


def create_task(
    recipe: DetectionRecipe,
    data: str | Path | None = None,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    resumes: bool = False,
    needs_drop_path: bool = False,
) -> DetectionTask:
    """Check images and annotations, make the detector, and start it from weights where some are given.

    Args:
        data: a folder in COCO's layout; None for the images that come with the recipe.
        checkpoint: weights to start from: a backbone's (a classifier's file), or a whole detector's; layers for other
            classes stay new.
        pretrained: start from the backbone's released weights, from their public home.
        resumes: the weights will come from the run that is continued, so none are needed to start from.
        needs_drop_path: refuse a backbone without stochastic depth, instead of training it without.

    Raises:
        FovealError: whatever is wrong with the images, the annotations, the model or the weights.
    """
    check_start(recipe, "a trained backbone", checkpoint, pretrained, resumes)
    if recipe.train.compile:
        raise FovealError("Detectors are not compiled, since what they find changes shapes: leave --compile out.")
    train, val = open_images(recipe, data)
    recipe, model = start_model(recipe, len(train.classes), checkpoint, pretrained, needs_drop_path)
    return DetectionTask(recipe, model, train, val)


def open_images(recipe: DetectionRecipe, data: str | Path | None) -> tuple[CocoImages, CocoImages]:
    """The recipe's training and validation images, the former augmented as it says.

    Raises:
        FovealError: there are none, or their annotations are broken.
    """
    empty: Empty = "keep" if recipe.keep_empty else "drop"
    masks = recipe.detector == "mask_rcnn"
    train, val = open_train_and_val(data_folder(recipe, data), masks, recipe.train.broken, empty)
    train.transform = Augment(recipe.augment)
    return train, val


def notices_of(images: CocoImages) -> list[str]:
    """A sentence about the entries of an annotation file that were skipped, if there are any."""
    if not images.problems:
        return []
    entries = "a broken entry" if len(images.problems) == 1 else f"{len(images.problems)} broken entries"
    return [f"{images.annotation_file} has {entries}, left out here; the first: {images.problems[0]}"]


def data_folder(recipe: DetectionRecipe, data: str | Path | None) -> Path:
    """``data`` as it is, or the folder of the images that come with the recipe, written if need be."""
    if data is not None:
        return Path(data)
    if recipe.data == "shapes":
        return shapes_folder()
    raise FovealError(
        f"{recipe.name} needs images: pass --data DIR in COCO's layout, with DIR/annotations/instances_train2017.json, "
        "DIR/train2017, and the same for val2017."
    )
