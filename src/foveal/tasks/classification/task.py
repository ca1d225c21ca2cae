"""The task of classification: a network, images with one class each, and a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.counting import flops
from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsSource
from foveal.tasks.classification.data import Images, open_train_and_val
from foveal.tasks.classification.data.cifar import cifar100_folder, is_cifar100
from foveal.tasks.classification.data.classes import note_uncounted, without_images
from foveal.tasks.classification.digits import default_digits_folder, write_digits
from foveal.tasks.classification.evaluate import count_answers
from foveal.tasks.classification.freezing import freeze
from foveal.tasks.classification.losses import ClassLoss, balanced_class_weights
from foveal.tasks.classification.network import Classifier, load_weights, released_start, restore
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.network import create_network
from foveal.tasks.plan import PlannedNetwork, TrainingSet
from foveal.tasks.task import Task
from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader
from foveal.training.processes import Processes
from foveal.training.streaming import ShardedSamples

LARGEST_VALIDATION_BATCH = 128
CIFAR100 = TrainingSet(50_000, 100, "CIFAR-100")


class ClassificationTask(Task[Recipe]):
    """A classifier, its images, and the recipe that joins them."""

    kind = "classification"
    monitor = "top1"
    starts_from = "trained weights"
    layout = "with DIR/train/<class>/ and DIR/val/<class>/"
    own_images = {"digits": lambda: write_digits(default_digits_folder())}
    known_sets = {
        "imagenet": TrainingSet(1_281_167, 1000, "ImageNet-1K"),
        "cifar100": CIFAR100,
        "digits": TrainingSet(1438, 10, "scikit-learn's digits"),
    }
    default_classes = 1000

    def __init__(self, recipe: Recipe, model: nn.Module, train: Images, val: Images) -> None:
        super().__init__(recipe, model, train, val)
        self.classes = train.classes
        self.repeats = recipe.augment.repeats
        self.mixup = _mixup(recipe.augment, len(self.classes), train.multi_label)
        self.mixes = self.mixup is not None
        self.loss_of: Callable[[Tensor, Tensor], Tensor] = self.make_loss()

    @classmethod
    def for_images(cls, train: Images) -> Any:
        from foveal.tasks.classification.multi_label import MultiLabelTask  # a subclass

        return MultiLabelTask if train.multi_label else cls

    @classmethod
    def create_model(cls, recipe: Recipe, num_classes: int, pretrained: bool = False) -> tuple[Recipe, Any]:
        if pretrained and recipe.train.freeze:  # stages that do not exist are refused before a download
            with torch.device("meta"):
                freeze(super().create_model(recipe, num_classes)[1], recipe.train.freeze)
        recipe, model = super().create_model(recipe, num_classes, pretrained)
        freeze(model, recipe.train.freeze)
        return recipe, model

    @classmethod
    def build(cls, recipe: Recipe, num_classes: int, pretrained: bool) -> nn.Module:
        drop_path = {"drop_path_rate": recipe.drop_path} if recipe.drop_path else {}
        return create_network(
            recipe.model, num_classes, recipe.fit.size, {**recipe.model_args, **drop_path}, pretrained
        )

    @classmethod
    def load_start(cls, model: nn.Module, checkpoint: WeightsSource) -> LoadReport:
        return load_weights(model, checkpoint, new_classifier=True)

    @classmethod
    def released_start(cls, model: nn.Module) -> LoadReport:
        return released_start(model)

    @classmethod
    def open_images(cls, recipe: Recipe, data: str | Path | None) -> tuple[Images, Images]:
        where = data if isinstance(data, str) else cls.data_folder(recipe, data)  # "hf:NAME" is no folder
        train, val = open_train_and_val(
            where,
            recipe.train.val_fraction,
            recipe.train.seed,
            recipe.train.broken,
            usual_fraction=recipe.usual_val_fraction,
        )
        check_balancing(recipe.train, train)
        cls.set_transforms(recipe, train, val)
        return train, val

    @classmethod
    def set_transforms(cls, recipe: Recipe, train: Images, val: Images) -> None:
        train.transform, val.transform = recipe.augment.transform(recipe.fit), recipe.fit.transform()

    @classmethod
    def data_folder(cls, recipe: Recipe, data: str | Path | None) -> Path:
        """As in ``Task``; CIFAR-100 as it is distributed becomes a folder of class folders first (see ``cifar``)."""
        folder = super().data_folder(recipe, data)
        return cifar100_folder(folder) if data is not None and is_cifar100(folder) else folder

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        self.check_batching(self.recipe, batching)
        return super().train_loader(batching, draws, share, config)

    def balanced_classes(self) -> Sequence[int]:
        return self.train.targets

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss of logits and targets; see ``losses``."""
        balanced = self.recipe.train.class_weights == "balanced"
        weights = balanced_class_weights(self.train.targets, len(self.classes)) if balanced else None
        return ClassLoss(self.recipe.augment.label_smoothing, weights)

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with smoothed or mixed targets, and what ``accuracy`` returns."""
        images, targets = batch
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        logits = model(images).float()
        return self.loss_of(logits, targets), self.accuracy(logits, targets)

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return top-1 in percent, for which the class with the largest share of a mixed target counts."""
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        return {"top1": 100.0 * (logits.argmax(1) == labels).float().mean()}

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return top-1 and, with more than two classes, top-k in percent (see ``telling_k``), and the loss.

        If classes have no image, ``scored_classes`` of ``classes`` have one, and the others are noticed. ``skipped``
        counts broken images, if those are skipped.
        """
        loader, classes = self.validation_loader(processes.share), len(self.classes)
        score = count_answers(model, loader, processes.device, classes, on_batch=on_batch).score(processes)
        metrics = {**score.accuracies(), "loss": score.loss}
        if score.counted_classes < classes:
            metrics |= {"scored_classes": score.counted_classes, "classes": classes}
            self.note_uncounted(score.per_class)
        return {**metrics, "skipped": float(score.broken)} if self.recipe.train.broken == "skip" else metrics

    def note_uncounted(self, per_class: Sequence[int]) -> None:
        """Note classes that turned out to have no image: in shards whose labels were unknown, or among broken ones."""
        absent = [name for name, count in zip(self.classes, per_class, strict=True) if not count]
        if absent != without_images(self.val):
            note_uncounted(self.val, "The validation set", absent)

    @property
    def validation_batch(self) -> int:
        return min(self.recipe.train.batch_size, LARGEST_VALIDATION_BATCH)

    def own_metadata(self) -> dict[str, Any]:
        drawn = self.val.held_out
        return {
            "preprocessing": asdict(self.recipe.fit),
            "augmentation": asdict(self.recipe.augment),
            **({} if drawn is None else drawn.metadata()),
        }

    @classmethod
    def count_images(cls, recipe: Recipe, data: Path) -> TrainingSet:
        return CIFAR100 if is_cifar100(data) else super().count_images(recipe, data)

    @classmethod
    def planned_network(cls, recipe: Recipe, model: nn.Module, images: TrainingSet) -> PlannedNetwork:
        size = recipe.fit.size
        return PlannedNetwork(
            size=size,
            params=sum(parameter.numel() for parameter in model.parameters()),
            macs=flops(model, size).macs,
            views=recipe.augment.repeats,
            step=lambda net, batch: _step(net, recipe, images, batch),
        )

    @classmethod
    def check_batching(cls, recipe: Recipe, batching: Batching) -> None:
        recipe.augment.check_device_batch(batching.device)

    @classmethod
    def described(cls, metadata: Mapping[str, Any]) -> Recipe:
        return Recipe(
            name=metadata.get("recipe", metadata["model"]),
            summary="",
            model=metadata["model"],
            model_args=metadata.get("model_args", {}),
            fit=Preprocessing(**metadata["preprocessing"]),
            augment=Augmentation(),
            train=TrainConfig(),
        )

    @classmethod
    def restore(
        cls, path: WeightsSource, recipe: Recipe | None = None, *, size: int | None = None, name: str | None = None
    ) -> Classifier:
        """Return the classifier in a file; see ``network.restore``. ``size`` is the side of the images in pixels."""
        return restore(path, name, recipe=recipe, size=None if size is None else (size, size))


def _step(model: nn.Module, recipe: Recipe, images: TrainingSet, batch: int) -> Tensor:
    """Return the loss of a batch without content."""
    pixels = torch.empty(batch, 3, *recipe.fit.size)
    if recipe.train.channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    mixed = recipe.augment.mixes
    targets = torch.empty(batch, images.classes) if mixed else torch.empty(batch, dtype=torch.long)
    return F.cross_entropy(model(pixels).float(), targets)


def check_balancing(config: TrainConfig, train: Images) -> None:
    """Raise FovealError for images whose classes cannot be balanced as the settings ask."""
    if config.sampling == "balanced" and (train.multi_label or isinstance(train, ShardedSamples)):
        what = "images with several labels" if train.multi_label else "tar shards, which are read in order"
        raise FovealError(f"--sampling balanced is not for {what}: pass --class-weights balanced instead.")
    if config.class_weights == "balanced" and not train.present():
        raise FovealError(
            "--class-weights needs the classes of all images, and remote shards do not say them: leave it out."
        )


def _mixup(augment: Augmentation, num_classes: int, multi_label: bool) -> Mixup | None:
    if not augment.mixes:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mix_prob,
        switch_prob=augment.switch_prob,
        label_smoothing=augment.label_smoothing,
        num_classes=num_classes,
        multi_label=multi_label,
    )
