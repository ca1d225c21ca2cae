"""The plan of a recipe of any task: what ``foveal train --dry-run`` tells."""

from dataclasses import asdict, dataclass
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.recipe import BaseRecipe
from foveal.training.plan import RunPlan


@dataclass(frozen=True)
class TrainingSet:
    """The training set that a plan is made for: how many images of how many classes, and who says so."""

    count: int
    classes: int
    source: str


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """A recipe as it would be run.

    Attributes:
        recipe: as it was made: without drop path where the model has none.
        images: the training set.
        views: augmented views of an image within an epoch, which then sees fewer images.
        size: (height, width) of the image that multiply-adds are told for.
        sides: how large images are, where they differ, in words.
        params, macs: of the model; multiply-adds of one image's forward pass, None where they cannot be counted.
    """

    recipe: BaseRecipe
    images: TrainingSet
    views: int = 1
    size: tuple[int, int]
    sides: str | None = None
    params: int
    macs: int | None
    run: RunPlan

    def document(self) -> dict[str, Any]:
        """All of it in plain types, every parameter included."""
        run = {name: value for name, value in asdict(self.run).items() if name != "images"}
        if self.run.memory is not None:
            run["memory"]["total"] = self.run.memory.total
        recipe = {name: value for name, value in asdict(self.recipe).items() if name != "train"}
        return {
            "recipe": recipe,
            "images": asdict(self.images),
            "params": self.params,
            "macs": self.macs,
            "size": self.size,
            **run,
        }


def set_as_given(images: int, classes: int) -> TrainingSet:
    """A set whose number of images the user tells. Raises FovealError where that is none."""
    if images < 1:
        raise FovealError(f"--images must be at least 1, not {images}.")
    return TrainingSet(images, classes, "as given")


def check_processes(processes: int) -> None:
    """Raise FovealError for fewer than one."""
    if processes < 1:
        raise FovealError(f"--processes must be at least 1, not {processes}.")


def no_images(recipe: BaseRecipe) -> FovealError:
    """What to raise where nobody says how many images a recipe has."""
    return FovealError(
        f"{recipe.name} is for images of your own: pass --data DIR to count them, or --images with their number."
    )
