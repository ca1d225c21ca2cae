"""A task: a network, its images, and the recipe that joins them, from the first check to the trained network.

The training loop sees a task through ``foveal.training.task``. A new task is a subclass in a folder of its own and an
entry in ``registry.py``; CONTRIBUTING.md lists the files that it needs.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsFile, WeightsSource
from foveal.tasks.network import check_released, create_by_recipe
from foveal.tasks.plan import PlannedNetwork, TrainingPlan, TrainingSet
from foveal.tasks.recipe import BaseRecipe, check_one_start, check_settings, check_start
from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.dry_run import dry_run
from foveal.training.footprint import footprint
from foveal.training.loading import Loader, evaluation_loader, train_loader
from foveal.training.processes import Processes
from foveal.training.sampling import mix, seed_everything
from foveal.training.start import Start

R = TypeVar("R", bound=BaseRecipe)
T = TypeVar("T", bound="Task")


class Images(Sized, Protocol):
    """A set of images with the names of its classes, in the order of their labels, and sentences about what was left
    out or derived."""

    classes: list[str]

    @property
    def notices(self) -> Sequence[str]: ...


class Task(ABC, Generic[R]):
    """A network, its images, and the recipe that joins them. Fulfils ``foveal.training.Task``."""

    kind: ClassVar[str]
    """The key in the registry."""
    monitor: str
    """The metric that selects the best epoch."""
    higher_is_better: bool = True
    mixes: bool = True
    """Whether the samples of a device batch meet in the loss."""
    start: Start | None = None
    """The weights that the network starts from; None for initial values and in a run that is resumed."""
    starts_from: ClassVar[str]
    """What a recipe that fine-tunes starts from, in words."""
    layout: ClassVar[str]
    """What ``--data`` expects, for the error if it is missing."""
    own_images: ClassVar[Mapping[str, Callable[[], Path]]]
    """Images that come with recipes (``BaseRecipe.data``), and what writes them."""
    known_sets: ClassVar[Mapping[str, TrainingSet]]
    """Training sets by the first part of a recipe's name."""
    default_classes: ClassVar[int]
    """Number of classes that a plan assumes for images of unknown classes."""
    repeats: int = 1
    """Augmented views per image and epoch."""
    collate: Callable | None = None
    """What joins samples to a batch; None for PyTorch's own."""

    def __init__(self, recipe: R, model: nn.Module, train: Any, val: Any) -> None:
        self.recipe, self.model, self.train, self.val = recipe, model, train, val
        self.train_size = len(train)
        self._validation: Loader | None = None

    # Creation

    @classmethod
    def create(
        cls: type[T],
        recipe: Any,
        data: str | Path | None = None,
        *,
        checkpoint: Path | None = None,
        pretrained: bool = False,
        resumes: bool = False,
    ) -> T:
        """Check the images, create the network, and load the weights to start from.

        Args:
            recipe: a recipe of this task.
            data: the images; None for those that come with the recipe.
            checkpoint: weights to start from; layers for other classes keep their initial values.
            pretrained: start from the released weights, downloaded from their public home.
            resumes: the weights will come from the run that is resumed, so none are needed to start from.

        Raises:
            FovealError: anything wrong with the images, the network or the weights.
        """
        check_start(recipe, cls.starts_from, checkpoint, pretrained, resumes)
        check_settings(recipe)
        cls.check_recipe(recipe)
        train, val = cls.open_images(recipe, data)
        fitted = recipe.for_images(len(train), from_weights=checkpoint is not None or pretrained)
        if fitted is not recipe:
            recipe = fitted
            cls.set_transforms(recipe, train, val)
        seed_everything(mix(recipe.train.seed, "weights"))
        if resumes:  # with its own weights: those that it started from are neither read nor downloaded again
            checkpoint, pretrained = None, False
        recipe, model = cls.create_model(recipe, len(train.classes), pretrained)
        start = None
        if checkpoint is not None:
            start = cls._start_from(model, WeightsFile.open(checkpoint))
        elif pretrained:
            start = Start(f"the released weights of {recipe.model}", cls.released_start(model))
        task = cls.for_images(train)(recipe, model, train, val)
        task.start = start
        return task

    @classmethod
    def check_recipe(cls, recipe: R) -> None:
        """Raise FovealError for settings that this task cannot train with."""

    @classmethod
    def for_images(cls: type[T], train: Any) -> type[T]:
        """Return the class of the task on these images: this one, unless what they are labelled with decides."""
        return cls

    @classmethod
    def create_model(cls, recipe: R, num_classes: int, pretrained: bool = False) -> tuple[R, Any]:
        """Return the recipe as it is run, without drop path if the network has none, and its network."""
        return create_by_recipe(recipe, lambda of: cls.build(of, num_classes, pretrained))

    @classmethod
    @abstractmethod
    def build(cls, recipe: R, num_classes: int, pretrained: bool) -> nn.Module:
        """Create the network of a recipe. Raises FovealError if it does not exist or its options do not suit it."""

    @classmethod
    @abstractmethod
    def load_start(cls, model: Any, checkpoint: WeightsSource) -> LoadReport:
        """Load weights to start from; layers for other classes keep their initial values."""

    @classmethod
    def _start_from(cls, model: Any, file: WeightsFile) -> Start:
        return Start.of_file(file, cls.load_start(model, file))

    @classmethod
    def released_start(cls, model: Any) -> LoadReport:
        """Return which tensors of a network that was created with its released weights are of these."""
        return LoadReport(loaded=tuple(model.state_dict()))

    @classmethod
    @abstractmethod
    def open_images(cls, recipe: R, data: str | Path | None) -> tuple[Any, Any]:
        """Open the training images, augmented as the recipe says, and the validation images.

        Raises:
            FovealError: there are none, or they are broken.
        """

    @classmethod
    def set_transforms(cls, recipe: R, train: Any, val: Any) -> None:
        """Set what opened images become, by the recipe as it is run."""

    @classmethod
    def data_folder(cls, recipe: R, data: str | Path | None) -> Path:
        """Return ``data``, or the folder of the images that come with the recipe, written first if necessary."""
        if data is not None:
            return Path(data)
        if recipe.data is not None and recipe.data in cls.own_images:
            return cls.own_images[recipe.data]()
        raise FovealError(f"{recipe.name} needs images: pass --data DIR {cls.layout}.")

    @property
    def notices(self) -> Sequence[str]:
        """Sentences about the images, for the start of a run."""
        return notices_of(self.train, self.val)

    # Training

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        """Return a loader of batches of ``batching.device`` samples, ``draws`` samples per epoch for this process."""
        return train_loader(
            self.train,
            batching.device,
            draws,
            share,
            config.seed,
            config.workers,
            self.repeats,
            self.collate,
            broken=config.broken,
            pass_by_pass=config.epoch_steps is not None,
            classes=self.balanced_classes() if config.sampling == "balanced" else None,
        )

    def balanced_classes(self) -> Sequence[int]:
        """Return the class of each training image, for balanced sampling."""
        raise NotImplementedError

    @abstractmethod
    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss of a batch, and scalars to log."""

    @abstractmethod
    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return the metrics of ``model`` on the validation set, each image counted once over all processes."""

    def validation_loader(self, share: Share) -> Loader:
        """Return the loader of this process's share of the validation set, the same at each call."""
        if self._validation is None:
            config = self.recipe.train
            self._validation = evaluation_loader(
                self.val,
                self.validation_batch,
                share,
                config.workers,
                self.collate,
                broken=config.broken,
            )
        return self._validation

    @property
    def validation_batch(self) -> int:
        """Images per validation batch."""
        return 1

    def check_split(self, batching: Batching) -> None:
        """Raise FovealError for a device batch that this task cannot train with."""
        self.check_batching(self.recipe, batching)

    def device_memory(self, batch: int, processes: int) -> int | None:
        """Return the bytes that a device batch of this size takes in training, estimated by ``footprint``; None if
        that depends on the content of the images."""
        model, step = self._on_paper
        if step is None:
            return None
        return footprint(model, self.recipe.train, processes, lambda net: step(net, batch)).total

    @cached_property
    def _on_paper(self) -> tuple[Any, Callable[[nn.Module, int], Tensor] | None]:
        """The network on the meta device, and what computes the loss of a batch without content."""
        images = TrainingSet(self.train_size, len(self.train.classes), "")
        with torch.device("meta"):
            recipe, model = self.create_model(self.recipe, images.classes)
        return model, self.planned_network(recipe, model, images).step

    def metadata(self) -> dict[str, Any]:
        """Return what a checkpoint says about its network, in plain types."""
        recipe = self.recipe
        return {
            "task": self.kind,
            "recipe": recipe.name,
            "model": recipe.model,
            "model_args": recipe.model_args,
            "classes": self.train.classes,
            "drop_path": recipe.drop_path,
            **self.own_metadata(),
        }

    @classmethod
    @abstractmethod
    def restore(cls, path: Any, recipe: Any = None, *, size: int | None = None) -> Any:
        """Return the network in a file with its classes.

        Args:
            path: a file of ``foveal train``, or a released one; or an opened ``WeightsFile``.
            recipe: the recipe of a file without metadata.
            size: see the task; None for that of the recipe.

        Raises:
            FovealError: the file is missing, broken, not described, or does not fit.
        """

    @classmethod
    @abstractmethod
    def described(cls, metadata: Mapping[str, Any]) -> R:
        """Return the recipe that the metadata of a file describe, as far as evaluation needs it."""

    @abstractmethod
    def own_metadata(self) -> dict[str, Any]:
        """Return the part of ``metadata`` that only this task has."""

    # Planning

    @classmethod
    def plan(
        cls,
        recipe: Any,
        data: Path | None = None,
        *,
        images: int | None = None,
        processes: int = 1,
        checkpoint: Path | None = None,
        pretrained: bool = False,
    ) -> TrainingPlan:
        """Plan a run on ``processes`` devices. A few images are decoded, and nothing is written or downloaded.

        Args:
            recipe: a recipe of this task.
            data: the images to count; None for the set that the recipe is named after.
            images: number of training images instead of ``data``.
            checkpoint: weights to start from, which are compared with the network.
            pretrained: start from the released weights.

        Raises:
            FovealError: anything that training would refuse before its first step, or an unknown number of images.
        """
        if processes < 1:
            raise FovealError(f"--processes must be at least 1, not {processes}.")
        check_one_start(checkpoint, pretrained)
        check_settings(recipe)
        cls.check_recipe(recipe)
        found = cls._training_set(recipe, data, images)
        recipe = recipe.for_images(found.count, from_weights=checkpoint is not None or pretrained)
        with torch.device("meta"):
            recipe, model = cls.create_model(recipe, found.classes)
        start = cls._planned_start(recipe, model, checkpoint, pretrained)
        network = cls.planned_network(recipe, model, found)
        run = dry_run(model, recipe.train, found.count, processes, network.step)
        cls.check_batching(recipe, run.batching)
        return TrainingPlan(recipe=recipe, images=found, network=network, run=run, start=start)

    @classmethod
    def _planned_start(cls, recipe: R, model: Any, checkpoint: Path | None, pretrained: bool) -> Start | None:
        """Compare the weights to start from with a network on the meta device, where loading copies nothing."""
        if checkpoint is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
                return cls._start_from(model, WeightsFile.open(checkpoint))
        if pretrained:
            check_released(recipe.model, model)
            return Start(f"the released weights of {recipe.model}", cls.released_start(model))
        return None

    @classmethod
    def _training_set(cls, recipe: R, data: Path | None, images: int | None) -> TrainingSet:
        known = cls.known_set(recipe)
        if images is not None and data is not None:
            raise FovealError("--images and --data both give the number of images: pass one of them.")
        if images is not None:
            return TrainingSet.as_given(images, known.classes if known else cls.default_classes)
        if data is not None:
            return cls.count_images(recipe, data)
        if known is None:
            raise FovealError(
                f"{recipe.name} trains on your own images: pass --data DIR to count them, or --images with "
                "their number."
            )
        return known

    @classmethod
    def known_set(cls, recipe: R) -> TrainingSet | None:
        """Return the training set that the recipe is named after or that comes with it, if any."""
        return cls.known_sets.get(recipe.name.partition(".")[0]) or cls.known_sets.get(recipe.data or "")

    @classmethod
    def count_images(cls, recipe: R, data: Path) -> TrainingSet:
        """Count the training images and classes in ``data``."""
        train, val = cls.open_images(recipe, data)
        return TrainingSet(len(train), len(train.classes), str(data), tuple(notices_of(train, val)))

    @classmethod
    @abstractmethod
    def planned_network(cls, recipe: R, model: Any, images: TrainingSet) -> PlannedNetwork:
        """Count what a network on the meta device takes for one image."""

    @classmethod
    def check_batching(cls, recipe: R, batching: Batching) -> None:
        """Raise FovealError for a device batch that this task cannot train with."""


def notices_of(*sets: Images) -> list[str]:
    """Return the notices of sets of images, each once."""
    return list(dict.fromkeys(notice for images in sets for notice in images.notices))
