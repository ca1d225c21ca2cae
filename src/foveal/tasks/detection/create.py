"""``create_detector``: from names to a detector."""

from typing import Any

from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.create import find_builder
from foveal.tasks.detection.detector import Detector, Images

SHORT, LONG = 800, 1333  # pixels: what images are fitted to in the published evaluations

#: Name -> where it is built; imported when asked for, because DINO's parts come with transformers.
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
    pretrained_backbone: bool = False,
    drop_path: float = 0.0,
    frozen_stages: int = 0,
    position_bias: str = "interpolate",
    reference_size: int = 800,
    backbone_args: dict[str, Any] | None = None,
    short: int = SHORT,
    long: int = LONG,
    **options: Any,
) -> Detector:
    """A detector as the papers used it; see ``Detector`` for what it takes and gives.

    Args:
        name: "mask_rcnn", "retinanet" or "dino".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: classes of objects, the background not counted.
        pretrained_backbone: start from the backbone's released weights.
        drop_path, frozen_stages, position_bias, reference_size, backbone_args: see ``DenseBackbone``.
        short, long: sides that images are fitted to in evaluation; see ``Images``.
        options: the head's own; see its builder (``num_levels=4`` or 5 of DINO).

    Raises:
        FovealError: no such detector or backbone, or options that it does not have.
    """
    build = find_builder("detector", name, BUILDERS, num_classes, options)

    def make_backbone(stages: tuple[int, ...]) -> DenseBackbone:
        return DenseBackbone(
            backbone,
            stages=stages,
            pretrained=pretrained_backbone,
            drop_path=drop_path,
            frozen_stages=frozen_stages,
            position_bias=position_bias,
            reference_size=reference_size,
            args=backbone_args,
        )

    return build(make_backbone, num_classes, Images(short, long))
