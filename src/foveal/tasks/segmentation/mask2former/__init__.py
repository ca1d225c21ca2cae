"""Mask2Former: masks and their classes, predicted as a set by masked attention (Cheng et al. 2021, arXiv:2112.01527).

Pixel decoder and transformer are those of transformers; matching and losses are implemented here. What the paper leaves
open follows MMSegmentation 1, which the released files were trained with.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveal.errors import FovealError
from foveal.tasks.dense.create import require_packages
from foveal.tasks.dense.detr import TransformerSettings
from foveal.tasks.dense.model import DenseBackbone

if TYPE_CHECKING:
    from foveal.tasks.segmentation.mask2former.model import Mask2Former

#: Maps that become tokens of the pixel decoder, and that the decoder's layers attend to in turn.
LEVELS = 3


@dataclass(frozen=True)
class Settings(TransformerSettings):
    """Options of Mask2Former, by default as published."""

    title = "Mask2Former"
    encoder_mlp_dim: int = 1024
    """Hidden width of the pixel decoder's feed-forward blocks."""
    decoder_layers: int = 9
    train_points: int = 12544
    """Points per image at which masks are compared in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_layers < LEVELS:
            raise FovealError(
                f"Mask2Former's decoder attends to {LEVELS} maps in turn: decoder_layers must be at least {LEVELS}, "
                f"not {self.decoder_layers}."
            )


def build(backbone: DenseBackbone, num_classes: int, settings: Settings) -> "Mask2Former":
    """Build Mask2Former; see ``find_builder``.

    Raises:
        FovealError: transformers or SciPy is not installed.
    """
    require_packages("Mask2Former", "transformers", "scipy")
    from foveal.tasks.segmentation.mask2former.model import Mask2Former

    return Mask2Former(backbone, num_classes, settings)
