"""Classification as the loop sees it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.classification.data import Images, open_train_and_val
from foveal.tasks.classification.data.cifar import cifar100_folder, is_cifar100
from foveal.tasks.classification.digits import default_digits_folder, write_digits
from foveal.tasks.classification.evaluate import batch_sums, logits_of
from foveal.tasks.classification.network import load_weights
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.network import create_by_recipe, create_network
from foveal.tasks.recipe import check_start
from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader, all_broken, evaluation_loader, train_loader
from foveal.training.processes import Processes
from foveal.training.seeding import mix, seed_everything


class ClassificationTask:
    """A classifier, its images, and the recipe that joins them. Fulfils ``foveal.training.Task``."""

    monitor = "top1"
    higher_is_better = True
    notices: Sequence[str] = ()

    def __init__(self, recipe: Recipe, model: nn.Module, train: Images, val: Images) -> None:
        self.recipe, self.model, self.train, self.val = recipe, model, train, val
        self.classes = train.classes
        self.train_size = len(train)
        self._mixup = _mixup(recipe, len(self.classes))
        self.mixes = self._mixup is not None
        self._val_loader: Loader | None = None

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        self.recipe.augment.check_device_batch(batching.device)
        repeats = self.recipe.augment.repeats
        return train_loader(
            self.train,
            batching.device,
            draws,
            share,
            config.seed,
            config.workers,
            repeats,
            broken=config.broken,
            pass_by_pass=config.epoch_steps is not None,
        )

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy against smoothed or mixed targets; top-1 in percent against the class with the largest
        share."""
        images, targets = batch
        smoothing = self.recipe.augment.label_smoothing
        if self._mixup is not None:
            images, targets = self._mixup(images, targets)
            smoothing = 0.0  # mixup has smoothed them
        logits = model(images).float()
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        top1 = 100.0 * (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, targets, label_smoothing=smoothing), {"top1": top1}

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Top-1, top-5 (percent) and loss over the validation set, every image counted once over all processes.

        Where broken images are skipped, ``skipped`` is their number.
        """
        loader = self._validation(processes.share)
        before = loader.skipped
        totals = {"images": 0.0, "top1": 0.0, "top5": 0.0, "loss": 0.0}
        for logits, targets in logits_of(model, loader, processes.device, on_batch):
            for name, value in {"images": len(targets), **batch_sums(logits, targets)}.items():
                totals[name] += value
        totals = processes.sum({**totals, "skipped": float(loader.skipped - before)})
        images, skipped = totals.pop("images"), totals.pop("skipped")
        if not images:
            raise all_broken(loader.broken)
        means = {name: total / images for name, total in totals.items()}
        return {**means, "skipped": skipped} if self.recipe.train.broken == "skip" else means

    def _validation(self, share: Share) -> Loader:
        if self._val_loader is None:
            config = self.recipe.train
            self._val_loader = evaluation_loader(
                self.val, min(config.batch_size, 128), share, config.workers, broken=config.broken
            )
        return self._val_loader

    def card(self) -> dict[str, Any]:
        return {
            "task": "classification",
            "recipe": self.recipe.name,
            "model": self.recipe.model,
            "model_args": self.recipe.model_args,
            "classes": self.classes,
            "preprocessing": asdict(self.recipe.fit),
            "augmentation": asdict(self.recipe.augment),
            "drop_path": self.recipe.drop_path,
        }


def create_task(
    recipe: Recipe,
    data: str | Path | None = None,
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    resumes: bool = False,
    needs_drop_path: bool = False,
) -> ClassificationTask:
    """Check the images, make the network, and start it from weights where some are given.

    Args:
        data: a folder with ``train/<class>/`` and ``val/<class>/``, or another source (see ``data``); None for
            the images that come with the recipe.
        checkpoint: weights to start from; a classifier for other classes is replaced by a new one.
        pretrained: start from the released weights, from their public home.
        resumes: the weights will come from the run that is continued, so none are needed to start from.
        needs_drop_path: refuse a model without stochastic depth, instead of training it without.

    Raises:
        FovealError: whatever is wrong with the images, the model or the weights.
    """
    check_start(recipe, "trained weights", checkpoint, pretrained, resumes)
    train, val = open_train_and_val(data if isinstance(data, str) else data_folder(recipe, data))
    train.transform, val.transform = recipe.augment.transform(recipe.fit), recipe.fit.transform()
    seed_everything(mix(recipe.train.seed, "weights"))
    recipe, model = create_model(recipe, len(train.classes), pretrained, needs_drop_path)
    if checkpoint is not None:
        load_weights(model, checkpoint, new_classifier=True)
    return ClassificationTask(recipe, model, train, val)


def create_model(recipe: Recipe, num_classes: int, pretrained: bool, needs_drop_path: bool) -> tuple[Recipe, nn.Module]:
    """The network, and the recipe as it was made: without drop path where the model has none."""

    def make(of: Recipe) -> nn.Module:
        args = {**of.model_args, **({"drop_path_rate": of.drop_path} if of.drop_path else {})}
        return create_network(of.model, num_classes, of.fit.size, args, pretrained)

    return create_by_recipe(recipe, make, needs_drop_path)


def data_folder(recipe: Recipe, data: Path | None) -> Path:
    """``data`` as it is, or the folder of the images that come with the recipe, written if need be.

    CIFAR-100 as it is distributed (see ``cifar``) becomes a folder of class folders.
    """
    if data is not None:
        return cifar100_folder(data) if is_cifar100(data) else data
    if recipe.data == "digits":
        return write_digits(default_digits_folder())
    raise FovealError(f"{recipe.name} needs images: pass --data DIR with DIR/train/<class>/ and DIR/val/<class>/.")


def _mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    augment = recipe.augment
    if not augment.mixes:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mix_prob,
        switch_prob=augment.switch_prob,
        label_smoothing=augment.label_smoothing,
        num_classes=num_classes,
    )
