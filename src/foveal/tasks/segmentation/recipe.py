"""What a segmentation recipe is: a segmenter, its images' treatment, and its training settings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from foveal.tasks.dense.recipe import DenseRecipe
from foveal.tasks.segmentation.create import create_segmenter
from foveal.tasks.segmentation.data.augment import Augmentation
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(DenseRecipe):
    """A segmenter on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "segmentation"
    segmenter: str
    """The head: "upernet", "mask2former" or "semantic_fpn"."""
    augment: Augmentation
    inference: Inference
    """How images are seen when they are evaluated."""
    zero_ignored: bool = True
    """Whether 0 in a label map is no class, and class 0 is written as 1 (ADE20K)."""

    @property
    def head(self) -> str:
        return self.segmenter

    def with_size(self, size: int) -> "SegmentationRecipe":
        """The recipe for crops of this many pixels; all other sides in proportion."""
        factor = size / self.augment.crop
        return replace(self, augment=self.augment.scaled(factor), inference=self.inference.scaled(factor))

    def _create_head(self, num_classes: int, **settings: Any) -> Segmenter:
        return create_segmenter(self.segmenter, self.model, num_classes, **settings)
