"""What a detection recipe is: a detector, its images' treatment, and its training settings."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foveal.tasks.detection.create import LONG, SHORT, create_detector
from foveal.tasks.detection.data.augment import Augmentation
from foveal.tasks.detection.detector import Detector
from foveal.tasks.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(BaseRecipe):
    """A detector on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "detection"
    detector: str
    """The head: "mask_rcnn", "retinanet" or "dino"."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``create_detector``: of the head, of TransNeXt's position bias, of the images' sides."""
    augment: Augmentation
    frozen_stages: int = 0
    """So many of the backbone's stages keep the weights that they start from."""
    keep_empty: bool = False
    """Whether images without objects are trained on."""

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

    def create(self, num_classes: int, *, pretrained_backbone: bool = False) -> Detector:
        """The detector, new.

        Raises:
            FovealError: a backbone that does not exist, or one that the options do not suit.
        """
        return create_detector(
            self.detector,
            self.model,
            num_classes,
            pretrained_backbone=pretrained_backbone,
            drop_path=self.drop_path,
            frozen_stages=self.frozen_stages,
            backbone_args=self.model_args,
            **self.options,
        )
