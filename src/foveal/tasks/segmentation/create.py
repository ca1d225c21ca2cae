"""Segmenters by name."""

from typing import Any

from foveal.errors import FovealError
from foveal.tasks.dense.create import find_head
from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter

REFERENCE_SIZE = 512  # pixels, of the released segmenters
#: Module of each segmenter, imported when one is created: some need transformers.
BUILDERS = {
    "upernet": "foveal.tasks.segmentation.upernet",
    "mask2former": "foveal.tasks.segmentation.mask2former",
    "semantic_fpn": "foveal.tasks.segmentation.semantic_fpn",
}


def create_segmenter(name: str, backbone: str = "transnext_tiny", num_classes: int = 150, **options: Any) -> Segmenter:
    """Create a segmenter as published; see ``Segmenter`` for inputs and outputs.

    Args:
        name: "upernet", "mask2former" or "semantic_fpn".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: pixel classes, at most 255, including the background if the labels have it.
        options: ``pretrained_backbone`` (start from the released weights of the backbone), ``drop_path``,
            ``frozen_stages``, ``position_bias``, ``reference_size`` (512 here) and ``backbone_args``, see
            ``DenseBackbone``; and the ``Settings`` of the head.

    Raises:
        FovealError: no such segmenter or backbone, options that it does not have, or too many classes.
    """
    options = {"reference_size": REFERENCE_SIZE, **options}
    build, make_backbone = find_head("segmenter", name, BUILDERS, backbone, num_classes, options)
    if num_classes > IGNORED:
        raise FovealError(
            f"num_classes must be at most {IGNORED}, which is the label of ignored pixels, not {num_classes}: join "
            "classes."
        )
    return build(make_backbone(), num_classes)
