"""What a segmentation recipe is: a segmenter, its images' treatment, and its training settings."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.segmentation.create import create_segmenter
from foveal.tasks.segmentation.data.augment import Augmentation
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(BaseRecipe):
    """A segmenter on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "segmentation"
    segmenter: str
    """The head: "upernet", "mask2former" or "semantic_fpn"."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``create_segmenter``: of the head, of TransNeXt's position bias."""
    augment: Augmentation
    inference: Inference
    """How images are seen when they are evaluated."""
    frozen_stages: int = 0
    """So many of the backbone's stages keep the weights that they start from."""
    zero_ignored: bool = True
    """Whether 0 in a label map is no class, and class 0 is written as 1 (ADE20K)."""

    def with_size(self, size: int) -> "SegmentationRecipe":
        """The recipe for crops of this many pixels; all other sides in proportion."""
        factor = size / self.augment.crop
        return replace(self, augment=self.augment.scaled(factor), inference=self.inference.scaled(factor))

    def create(self, num_classes: int, *, pretrained_backbone: bool = False) -> Segmenter:
        """The segmenter, new.

        Raises:
            FovealError: a backbone that does not exist, or one that the options do not suit.
        """
        return create_segmenter(
            self.segmenter,
            self.model,
            num_classes,
            pretrained_backbone=pretrained_backbone,
            drop_path=self.drop_path,
            frozen_stages=self.frozen_stages,
            backbone_args=self.model_args,
            **self.options,
        )
