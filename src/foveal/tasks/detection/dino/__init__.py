"""DINO: DETR with improved denoising anchor boxes (Zhang et al. 2022, arXiv:2203.03605).

Neither torchvision nor transformers has it. It is built here on the layers of transformers' Deformable DETR; the
definitions that the paper leaves open are those of MMDetection 3, with which the released files were trained.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from foveal.errors import FovealError
from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.detection.images import Images

if TYPE_CHECKING:
    from foveal.tasks.detection.dino.detector import Dino


def build(
    make_backbone: Callable[[tuple[int, ...]], DenseBackbone],
    num_classes: int,
    images: Images,
    *,
    num_levels: int = 4,
    queries: int = 900,
    denoising_queries: int = 100,
    dim: int = 256,
    heads: int = 8,
    points: int = 4,
    mlp_dim: int = 2048,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    max_detections: int = 300,
) -> "Dino":
    """DINO with the published settings; smaller ones are for small images.

    Args:
        make_backbone: gives the backbone with the maps of the stages that it is called with.
        num_classes: classes of objects.
        images: makes batches; here padded to the largest image alone, as published.
        num_levels: 4 (stages 2 to 4 and a level of half the last one's size) or 5 (stage 1 as well).
        queries: objects that are looked for in an image.
        denoising_queries: noised objects in training, positive and negative ones each, shared out to groups.
        dim, heads, points, mlp_dim: width, attention heads, points that a head samples in a level, hidden width of
            the feed-forward blocks.
        encoder_layers, decoder_layers: depths.
        max_detections: detections kept for an image.

    Raises:
        FovealError: transformers or SciPy is not installed, or settings that do not fit together.
    """
    for package, name in (("transformers", "transformers"), ("scipy", "SciPy")):
        if find_spec(package) is None:
            raise FovealError(f"DINO needs {name}: install it with `pip install 'foveal[dense]'`.")
    from foveal.tasks.detection.dino.detector import Dino
    from foveal.tasks.detection.dino.settings import Settings

    settings = Settings(
        num_levels=num_levels,
        queries=queries,
        denoising_queries=denoising_queries,
        dim=dim,
        heads=heads,
        points=points,
        mlp_dim=mlp_dim,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        max_detections=max_detections,
    )
    return Dino(make_backbone(settings.stages), num_classes, images, settings)
