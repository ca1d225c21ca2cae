"""What a detection recipe is: a detector, its images' treatment, and its training settings."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foveal.tasks.detection.create import create_detector
from foveal.tasks.detection.data.augment import Augmentation
from foveal.tasks.detection.detector import Detector
from foveal.tasks.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(BaseRecipe):
    """A detector on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "detection"
    detector: str
    """"mask_rcnn", "retinanet" or "dino"."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the detector's head and of its images' size in evaluation; see ``create_detector``."""
    augment: Augmentation
    frozen_stages: int = 0
    keep_empty: bool = False
    """Whether images without objects are trained on."""

    def with_size(self, size: int) -> "DetectionRecipe":
        """The recipe for images whose short side has this many pixels; all other sides in proportion."""
        factor = size / self.options.get("short", 800)
        sides = {name: round(factor * self.options.get(name, usual)) for name, usual in SIDES.items()}
        return replace(self, options={**self.options, **sides}, augment=self.augment.scaled(factor))

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


#: The sides of ``create_detector``, and what they are where nothing is said.
SIDES = {"short": 800, "long": 1333}
