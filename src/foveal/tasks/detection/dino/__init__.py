"""DINO: DETR with improved denoising anchor boxes (Zhang et al. 2022, arXiv:2203.03605).

Neither torchvision nor transformers implements it. It is built on the layers of transformers' Deformable DETR; what
the paper leaves open follows MMDetection 3, which the released files were trained with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveal.errors import FovealError
from foveal.tasks.dense.create import require_packages
from foveal.tasks.dense.detr import TransformerSettings
from foveal.tasks.dense.model import DenseBackbone
from foveal.tasks.detection.detector import Images

if TYPE_CHECKING:
    from foveal.tasks.detection.dino.detector import Dino


@dataclass(frozen=True)
class Settings(TransformerSettings):
    """Options of DINO, by default as published."""

    title = "DINO"
    num_levels: int = 4
    """4 (stages 2 to 4 and a level at half the resolution of the last) or 5 (stage 1 as well)."""
    queries: int = 900
    denoising_queries: int = 100
    """Approximate number of positive noised queries in training, and of negative ones, over all groups."""
    points: int = 4
    """Sampling points per head and level in deformable attention."""
    max_detections: int = 300
    """Detections kept per image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_levels not in (4, 5):
            raise FovealError(f"DINO has 4 or 5 levels, not {self.num_levels}.")

    @property
    def stages(self) -> tuple[int, ...]:
        """Backbone stages, from 0, whose maps are used; one more level is computed from the last."""
        return (1, 2, 3) if self.num_levels == 4 else (0, 1, 2, 3)


def build(make_backbone: Callable[..., DenseBackbone], num_classes: int, images: Images, settings: Settings) -> "Dino":
    """Build DINO; see ``find_builder``. Images are padded to the largest of the batch and no further, as published.

    Raises:
        FovealError: transformers or SciPy is not installed.
    """
    require_packages("DINO", "transformers", "scipy")
    from foveal.tasks.detection.dino.detector import Dino

    return Dino(make_backbone(stages=settings.stages), num_classes, images, settings)
