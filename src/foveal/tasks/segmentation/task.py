"""Segmentation as the loop sees it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.dense.recipe import start_model
from foveal.tasks.dense.shapes import shapes_folder
from foveal.tasks.recipe import check_start
from foveal.tasks.segmentation.data import Augment, LabelledImages, open_train_and_val
from foveal.tasks.segmentation.evaluate import evaluate_segmenter
from foveal.tasks.segmentation.recipe import SegmentationRecipe
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader, evaluation_loader, train_loader
from foveal.training.processes import Processes


class SegmentationTask:
    """A segmenter, its labelled images, and the recipe that joins them. Fulfils ``foveal.training.Task``.

    Losses are means over the pixels of a device batch, or over what is found in it (Mask2Former), so its size is part
    of a run.
    """

    monitor = "miou"
    higher_is_better = True
    mixes = True
    notices: tuple[str, ...] = ()

    def __init__(
        self, recipe: SegmentationRecipe, model: Segmenter, train: LabelledImages, val: LabelledImages
    ) -> None:
        self.recipe, self.model, self.train, self.val = recipe, model, train, val
        self.train_size = len(train)
        self._val_loader: Loader | None = None

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        return train_loader(
            self.train,
            batching.device,
            draws,
            share,
            config.seed,
            config.workers,
            broken=config.broken,
            pass_by_pass=config.epoch_steps is not None,
        )

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the segmenter's losses, and each of them."""
        images, labels = batch
        losses = model(images, labels)
        return torch.stack(list(losses.values())).sum(), self.model.summary(losses)

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Mean IoU, mean accuracy and accuracy of all pixels, in percent; each image once, in its own size."""
        loader, inference = self._validation(processes.share), self.recipe.inference
        return evaluate_segmenter(
            model,  # type: ignore[arg-type]  # the loop's, which is the segmenter
            loader,
            self.train.classes,
            inference,
            processes,
            on_batch=on_batch,
        ).metrics

    def _validation(self, share: Share) -> Loader:
        if self._val_loader is None:
            config = self.recipe.train
            self._val_loader = evaluation_loader(self.val, 1, share, config.workers, broken=config.broken)
        return self._val_loader

    def card(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "task": recipe.kind,
            "recipe": recipe.name,
            "segmenter": recipe.segmenter,
            "options": recipe.options,
            "model": recipe.model,
            "model_args": recipe.model_args,
            "classes": self.train.classes,
            "zero_ignored": recipe.zero_ignored,
            "augmentation": asdict(recipe.augment),
            "inference": asdict(recipe.inference),
            "drop_path": recipe.drop_path,
            "frozen_stages": recipe.frozen_stages,
        }


def create_task(
    recipe: SegmentationRecipe,
    data: str | Path | None = None,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    resumes: bool = False,
    needs_drop_path: bool = False,
) -> SegmentationTask:
    """Check images and label maps, make the segmenter, and start it from weights where some are given.

    Args:
        data: a folder in ADE20K's layout; None for the images that come with the recipe.
        checkpoint: weights to start from: a backbone's (a classifier's file), or a whole segmenter's; layers for other
            classes stay new.
        pretrained: start from the backbone's released weights, from their public home.
        resumes: the weights will come from the run that is continued, so none are needed to start from.
        needs_drop_path: refuse a backbone without stochastic depth, instead of training it without.

    Raises:
        FovealError: whatever is wrong with the images, the label maps, the model or the weights.
    """
    check_start(recipe, "a trained backbone", checkpoint, pretrained, resumes)
    train, val = open_images(recipe, data)
    recipe, model = start_model(recipe, len(train.classes), checkpoint, pretrained, needs_drop_path)
    return SegmentationTask(recipe, model, train, val)


def open_images(recipe: SegmentationRecipe, data: str | Path | None) -> tuple[LabelledImages, LabelledImages]:
    """The recipe's training and validation images, the former augmented as it says.

    Raises:
        FovealError: there are none, or their label maps are missing.
    """
    train, val = open_train_and_val(data_folder(recipe, data), zero_ignored=recipe.zero_ignored)
    train.transform = Augment(recipe.augment)
    return train, val


def data_folder(recipe: SegmentationRecipe, data: str | Path | None) -> Path:
    """``data`` as it is, or the folder of the images that come with the recipe, written if need be."""
    if data is not None:
        return Path(data)
    if recipe.data == "shapes":
        return shapes_folder()
    raise FovealError(
        f"{recipe.name} needs images: pass --data DIR in ADE20K's layout, with DIR/images/training, "
        "DIR/annotations/training, and the same for validation."
    )
