"""What recipes of detectors and segmenters share: a head on a backbone."""

from dataclasses import dataclass, field
from typing import Any

from foveal.tasks.dense.model import DenseModel
from foveal.tasks.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class DenseRecipe(BaseRecipe):
    """A head on a backbone (``model``)."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``create_detector`` or ``create_segmenter``, in plain types."""
    frozen_stages: int = 0
    """So many of the backbone's stages keep the weights that they start from."""

    @property
    def head(self) -> str:
        """The name of the head."""
        raise NotImplementedError

    def create(self, num_classes: int, *, pretrained_backbone: bool = False) -> Any:
        """The detector or segmenter, new.

        Raises:
            FovealError: a backbone that does not exist, or one that the options do not suit.
        """
        return self._create_head(
            num_classes,
            pretrained_backbone=pretrained_backbone,
            drop_path=self.drop_path,
            frozen_stages=self.frozen_stages,
            backbone_args=self.model_args,
            **self.options,
        )

    def _create_head(self, num_classes: int, **settings: Any) -> DenseModel:
        raise NotImplementedError
