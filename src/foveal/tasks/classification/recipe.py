"""What a recipe is: everything that training depends on beside the images."""

from dataclasses import dataclass, field
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A model, its images' treatment and its training settings. Variants derive by ``dataclasses.replace``."""

    name: str
    summary: str
    model: str
    fit: Preprocessing
    augment: Augmentation
    train: TrainConfig
    drop_path: float = 0.0
    """Stochastic depth of the deepest block (Huang et al. 2016), growing linearly from 0."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.create_model``, in plain types; they belong to ``model`` and not to another one."""
    starts_from_weights: bool = False
    """A fine-tuning recipe: without weights to start from it would be a mistake."""
    data: str | None = None
    """The images that come with the recipe ("digits"), where no folder is given."""

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise FovealError(f"drop_path must be at least 0 and below 1, not {self.drop_path}.")
