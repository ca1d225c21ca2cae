"""The plan of a recipe: what ``foveal train --dry-run`` reports."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.recipe import BaseRecipe
from foveal.training.dry_run import DryRun
from foveal.training.start import Start
from foveal.types import Size


@dataclass(frozen=True)
class TrainingSet:
    """The size of a training set, its number of classes, the source of both, and what a run would say of the images."""

    count: int
    classes: int
    source: str
    notices: tuple[str, ...] = ()

    @classmethod
    def as_given(cls, count: int, classes: int) -> "TrainingSet":
        """Return a set of as many images as the user says. Raises FovealError for fewer than one."""
        if count < 1:
            raise FovealError(f"--images must be at least 1, not {count}.")
        return cls(count, classes, "as given")


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """The cost of a network.

    Attributes:
        size: (height, width) of the image that multiply-adds are counted for.
        params: number of parameters.
        macs: multiply-adds of the forward pass of one image; None if they cannot be counted.
        sides: the range of training image sizes in words, if they differ.
        views: augmented views per image and epoch; an epoch then visits fewer images.
        step: from a model and a batch size to the loss of a batch without content, to estimate memory; None if memory
            depends on the content.
    """

    size: Size
    params: int
    macs: int | None
    sides: str | None = None
    views: int = 1
    step: Callable[[nn.Module, int], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A recipe as it would be run.

    Attributes:
        recipe: the recipe as it would be run: without drop path if the network has none.
        images: the training set.
        network: the cost of the network.
        run: updates, learning rates, weight decay and memory.
        start: the weights that it would start from; None if none were named.
    """

    recipe: BaseRecipe
    images: TrainingSet
    network: PlannedNetwork
    run: DryRun
    start: Start | None = None

    def document(self) -> dict[str, Any]:
        """Return the plan in plain types, every parameter included."""
        run = {name: value for name, value in asdict(self.run).items() if name != "images"}
        if self.run.memory is not None:
            run["memory"]["total"] = self.run.memory.total
        recipe = {name: value for name, value in asdict(self.recipe).items() if name not in ("train", "asked")}
        return {
            "recipe": recipe,
            "images": asdict(self.images),
            "start": None if self.start is None else self.start.document(),
            "params": self.network.params,
            "macs": self.network.macs,
            "size": self.network.size,
            **run,
        }
