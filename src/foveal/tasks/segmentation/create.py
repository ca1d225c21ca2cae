"""``create_segmenter``: from names to a segmenter."""

from typing import Any

from foveal.errors import FovealError
from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.create import find_builder
from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter

#: Name -> where it is built; imported when asked for, because some heads' parts come with transformers.
BUILDERS = {
    "upernet": "foveal.tasks.segmentation.upernet",
    "mask2former": "foveal.tasks.segmentation.mask2former",
    "semantic_fpn": "foveal.tasks.segmentation.semantic_fpn",
}


def create_segmenter(
    name: str,
    backbone: str = "transnext_tiny",
    num_classes: int = 150,
    *,
    pretrained_backbone: bool = False,
    drop_path: float = 0.0,
    frozen_stages: int = 0,
    position_bias: str = "interpolate",
    reference_size: int = 512,
    backbone_args: dict[str, Any] | None = None,
    **options: Any,
) -> Segmenter:
    """A segmenter as the papers used it; see ``Segmenter`` for what it takes and gives.

    Args:
        name: "upernet", "mask2former" or "semantic_fpn".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: classes of pixels, at most 255; one for the background counts where the labels have it.
        pretrained_backbone: start from the backbone's released weights.
        drop_path, frozen_stages, position_bias, reference_size, backbone_args: see ``DenseBackbone``.
        options: the head's own; see its builder.

    Raises:
        FovealError: no such segmenter or backbone, options that it does not have, or too many classes.
    """
    build = find_builder("segmenter", name, BUILDERS, num_classes, options)
    if num_classes > IGNORED:
        raise FovealError(
            f"num_classes must be at most {IGNORED}, which is the label of ignored pixels, not {num_classes}: join "
            "classes."
        )
    made = DenseBackbone(
        backbone,
        pretrained=pretrained_backbone,
        drop_path=drop_path,
        frozen_stages=frozen_stages,
        position_bias=position_bias,
        reference_size=reference_size,
        args=backbone_args,
    )
    return build(made, num_classes)
