"""Detectors by name."""

from typing import Any

from foveal.tasks.dense.create import find_head
from foveal.tasks.detection.detector import Detector, Images

SHORT, LONG = 800, 1333  # pixels, in the published evaluations

#: Module of each detector, imported when one is created: DINO needs transformers.
BUILDERS = {
    "mask_rcnn": "foveal.tasks.detection.mask_rcnn",
    "retinanet": "foveal.tasks.detection.retinanet",
    "dino": "foveal.tasks.detection.dino",
}


def create_detector(
    name: str,
    backbone: str = "transnext_tiny",
    num_classes: int = 80,
    *,
    short: int = SHORT,
    long: int = LONG,
    **options: Any,
) -> Detector:
    """Create a detector as published; see ``Detector`` for inputs and outputs.

    Args:
        name: "mask_rcnn", "retinanet" or "dino".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: object classes, without the background.
        short, long: sides that images are resized to in evaluation, in pixels; see ``Images``.
        options: ``pretrained_backbone`` (start from the released weights of the backbone), ``drop_path``,
            ``frozen_stages``, ``position_bias``, ``reference_size`` and ``backbone_args``, see ``DenseBackbone``; and
            the ``Settings`` of the head, such as ``num_levels=4`` or 5 for DINO.

    Raises:
        FovealError: no such detector or backbone, or options that it does not have.
    """
    build, make_backbone = find_head("detector", name, BUILDERS, backbone, num_classes, options)
    return build(make_backbone, num_classes, Images(short, long))
