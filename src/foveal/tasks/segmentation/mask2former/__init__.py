"""Mask2Former: masks and their classes, found as a set by masked attention (Cheng et al. 2021, arXiv:2112.01527).

Pixel decoder and transformer are transformers'; matching and losses are here. What the paper leaves open is as in
MMSegmentation 1, with which the released files were trained.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from foveal.errors import FovealError
from foveal.tasks.dense.backbone import DenseBackbone

if TYPE_CHECKING:
    from foveal.tasks.segmentation.mask2former.model import Mask2Former


def build(
    backbone: DenseBackbone,
    num_classes: int,
    *,
    queries: int = 100,
    dim: int = 256,
    heads: int = 8,
    encoder_layers: int = 6,
    encoder_mlp_dim: int = 1024,
    decoder_layers: int = 9,
    mlp_dim: int = 2048,
    train_points: int = 12544,
) -> "Mask2Former":
    """Mask2Former with the published settings; smaller ones are for small images.

    Args:
        backbone: with the maps of all four stages.
        num_classes: classes of pixels.
        queries: masks that are looked for in an image; no fewer than classes occur in one.
        dim: width of all tokens, queries and mask embeddings.
        heads: of every attention.
        encoder_layers, encoder_mlp_dim: depth of the pixel decoder, and hidden width of its feed-forward blocks.
        decoder_layers, mlp_dim: depth of the decoder, and hidden width of its feed-forward blocks.
        train_points: places of an image at which masks are compared in training.

    Raises:
        FovealError: transformers or SciPy is not installed, or settings that do not fit together.
    """
    for package, name in (("transformers", "transformers"), ("scipy", "SciPy")):
        if find_spec(package) is None:
            raise FovealError(f"Mask2Former needs {name}: install it with `pip install 'foveal[dense]'`.")
    from foveal.tasks.segmentation.mask2former.model import Mask2Former
    from foveal.tasks.segmentation.mask2former.settings import Settings

    settings = Settings(
        queries=queries,
        dim=dim,
        heads=heads,
        encoder_layers=encoder_layers,
        encoder_mlp_dim=encoder_mlp_dim,
        decoder_layers=decoder_layers,
        mlp_dim=mlp_dim,
        train_points=train_points,
    )
    return Mask2Former(backbone, num_classes, settings)
