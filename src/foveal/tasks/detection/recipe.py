"""What a detection recipe is: a detector, its images' treatment, and its training settings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from foveal.tasks.dense.recipe import DenseRecipe
from foveal.tasks.detection.create import LONG, SHORT, create_detector
from foveal.tasks.detection.data.augment import Augmentation
from foveal.tasks.detection.detector import Detector


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(DenseRecipe):
    """A detector on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "detection"
    detector: str
    """The head: "mask_rcnn", "retinanet" or "dino"."""
    augment: Augmentation
    keep_empty: bool = False
    """Whether images without objects are trained on."""

    @property
    def head(self) -> str:
        return self.detector

    def with_size(self, size: int) -> "DetectionRecipe":
        """The recipe for images whose short side has this many pixels; all other sides in proportion."""
        short, long = self.sides
        factor = size / short
        options = {**self.options, "short": size, "long": round(factor * long)}
        return replace(self, options=options, augment=self.augment.scaled(factor))

    @property
    def sides(self) -> tuple[int, int]:
        """The short side that images are evaluated at, and what their long side does not exceed, in pixels."""
        return self.options.get("short", SHORT), self.options.get("long", LONG)

    def _create_head(self, num_classes: int, **settings: Any) -> Detector:
        return create_detector(self.detector, self.model, num_classes, **settings)
