"""Recipes of any task: a named network and the settings of its training."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from foveal.errors import FovealError
from foveal.near import did_you_mean
from foveal.options import declarations
from foveal.training.config import TrainConfig

Kind = TypeVar("Kind", bound="BaseRecipe")


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """A network and its training settings. Variants derive by ``dataclasses.replace``."""

    kind: ClassVar[str]
    """The task's key in the registry."""
    name: str
    summary: str
    model: str
    """timm's name of the network or backbone."""
    train: TrainConfig
    drop_path: float = 0.0
    """Stochastic depth of the deepest block (Huang et al. 2016), growing linearly from 0."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.create_model`` in plain types, for ``model`` only."""
    starts_from_weights: bool = False
    """Whether the recipe fine-tunes: starting from random weights would be a mistake."""
    data: str | None = None
    """Images that come with the recipe ("digits", "shapes"), used if no folder is given."""

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise FovealError(f"drop_path must be at least 0 and below 1, not {self.drop_path}.")

    def with_model(self: Kind, model: str) -> Kind:
        """Return the recipe for another network, without ``model_args``."""
        return self if model == self.model else replace(self, model=model, model_args={})

    def with_size(self: Kind, size: int) -> Kind:
        """Return the recipe for images of another size in pixels."""
        raise NotImplementedError

    def with_drop_path(self: Kind, rate: float) -> Kind:
        """Return the recipe with another rate of stochastic depth."""
        return replace(self, drop_path=rate)

    def for_images(self: Kind, count: int, from_weights: bool) -> Kind:
        """Return the recipe for ``count`` training images, starting from random or trained weights: itself, unless its
        settings follow from these."""
        return self

    def with_training(self: Kind, **settings: Any) -> Kind:
        """Return the recipe with other training settings.

        Another number of epochs moves the milestones in proportion and limits the warm-up, which takes at most half of
        the updates if both are counted in updates (``training.length`` does the same once the number of images is
        known). A batch size below the device batch lowers that, too.
        """
        usual = self.train
        if "warmup_epochs" in settings:
            settings["warmup_steps"] = None
        if "batch_size" in settings and isinstance(usual.device_batch_size, int):
            settings.setdefault("device_batch_size", min(usual.device_batch_size, settings["batch_size"]))
        epoch_steps = settings.get("epoch_steps", usual.epoch_steps)
        if usual.warmup_steps is not None and epoch_steps is not None and {"epochs", "epoch_steps"} & settings.keys():
            half = settings.get("epochs", usual.epochs) * epoch_steps // 2
            settings.setdefault("warmup_steps", min(usual.warmup_steps, half))
        if "epochs" in settings:
            epochs = settings["epochs"]
            moved = {max(1, round(milestone * epochs / usual.epochs)) for milestone in usual.milestones}
            settings = {
                "milestones": tuple(sorted(moved)),
                "warmup_epochs": min(usual.warmup_epochs, max(epochs - 1, 0)),
                **settings,
            }
        return replace(self, train=replace(usual, **settings))


def check_start(recipe: BaseRecipe, start: str, checkpoint: Path | None, pretrained: bool, resumes: bool) -> None:
    """Raise FovealError if the weights to start from are named twice, or are missing and ``recipe`` needs some.

    Args:
        start: what the recipe starts from, in words.
        resumes: the weights will come from the run that is resumed.
    """
    if recipe.starts_from_weights and not (checkpoint or pretrained or resumes):
        raise FovealError(f"{recipe.name} starts from {start}: pass --checkpoint FILE or --pretrained.")
    if recipe.train.freeze and not (checkpoint or pretrained or resumes):
        raise FovealError("--freeze keeps the weights that a run starts from: pass --checkpoint FILE or --pretrained.")
    check_one_start(checkpoint, pretrained)


def check_settings(recipe: BaseRecipe) -> None:
    """Raise FovealError for a training setting that the task of ``recipe`` does not take."""
    for one in declarations(TrainConfig):
        if one.tasks and recipe.kind not in one.tasks and getattr(recipe.train, one.name) != one.default:
            raise FovealError(f"{one.name} is not a setting for {recipe.kind}: leave it out.")


def check_one_start(checkpoint: Path | None, pretrained: bool) -> None:
    """Raise FovealError if the weights to start from are named twice."""
    if checkpoint is not None and pretrained:
        raise FovealError("--checkpoint and --pretrained both name the weights to start from: pass one of them.")


def check_drop_path(asked: float | None, recipe: BaseRecipe) -> None:
    """Raise FovealError if stochastic depth was asked for by name and the network of ``recipe``, as it is run, has
    none."""
    if asked and recipe.drop_path != asked:
        raise FovealError(f"{recipe.model} has no stochastic depth: leave --drop-path out.")


def no_recipe(name: str, known: Iterable[str]) -> FovealError:
    """Return the error about a name that no recipe has."""
    return FovealError(
        f"There is no recipe {name!r}{did_you_mean(name, known)}: `foveal train --list` shows all of them."
    )


def look_up(name: str, makers: Mapping[str, Callable[[], Kind]]) -> Kind:
    """Return the recipe called ``name``.

    Raises:
        FovealError: there is none; the sentence gives near names and the command that lists all.
    """
    if name not in makers:
        raise no_recipe(name, makers)
    return makers[name]()
