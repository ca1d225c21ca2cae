"""The detection recipes by name; ``coco.*`` have the settings of the papers.

TransNeXt: Shi 2024, arXiv:2311.17132, appendix C.3. TransXNet: Lou et al. 2023, arXiv:2310.19380, section IV-B. DINO:
Zhang et al. 2022, arXiv:2203.03605. Where our training differs from theirs, or they leave it open:

- broken entries are skipped and reported, since train2017 has boxes of zero area;
- no bias or other vector has weight decay; theirs excluded only norms and TransNeXt's own exceptions;
- everything is fp32 unless asked otherwise; gradients of Mask R-CNN and RetinaNet are not clipped;
- DINO's whole backbone learns at a tenth of the rate; theirs leaves out its last patch embedding and norm;
- TransXNet's drop path in detection is not published: ours is that of ImageNet; batch norm is synchronised.

``shapes.*`` train small detectors from random weights on generated images (see ``tasks.dense.shapes``) in minutes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from foveal.tasks.dense.create import DenseRecipe
from foveal.tasks.detection.data.augment import MULTI_SCALE, SMALL, Augmentation
from foveal.tasks.detection.detector import LONG, SHORT, create_detector
from foveal.training.config import TrainConfig

TRANSNEXT_DROP_PATH = {"tiny": 0.3, "small": 0.5, "base": 0.6}
TRANSXNET_DROP_PATH = {"t": 0.1, "s": 0.2, "b": 0.4}
DINO_LEVELS = {("tiny", 4): "dino", ("tiny", 5): "dino_5scale", ("small", 5): "dino_5scale", ("base", 5): "dino_5scale"}


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(DenseRecipe):
    """A detector on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "detection"
    create_head = staticmethod(create_detector)
    detector: str
    """The head: "mask_rcnn", "retinanet" or "dino"."""
    augment: Augmentation
    keep_empty: bool = False
    """Whether images without objects are trained on."""

    def with_size(self, size: int) -> "DetectionRecipe":
        """The recipe for images whose short side has this many pixels; all other sides in proportion."""
        short, long = self.sides
        factor = size / short
        options = {**self.options, "short": size, "long": round(factor * long)}
        return replace(self, options=options, augment=self.augment.scaled(factor))

    @property
    def sides(self) -> tuple[int, int]:
        """The short side that images are evaluated at, and what their long side does not exceed, in pixels."""
        return self.options.get("short", SHORT), self.options.get("long", LONG)


def _one_x(**settings: object) -> TrainConfig:
    """The schedule that detection papers call 1x: twelve epochs in batches of 16."""
    return TrainConfig(**{  # type: ignore[arg-type]
        "epochs": 12, "batch_size": 16, "device_batch_size": 2, "lr": 1e-4, "schedule": "multistep",
        "milestones": (8, 11), "warmup_steps": 500, "warmup_lr": 1e-7, "weight_decay": 0.05, "workers": 4,
        "save_steps": 1000, "broken": "skip", **settings,
    })  # fmt: skip


def _mask_rcnn_transnext(variant: str) -> DetectionRecipe:
    return DetectionRecipe.published(
        "coco", "mask_rcnn", "Mask R-CNN", f"transnext_{variant}", ", 1x",
        augment=Augmentation(), train=_one_x(), drop_path=TRANSNEXT_DROP_PATH[variant],
    )  # fmt: skip


def _transxnet(detector: str, title: str, weight_decay: float, variant: str) -> DetectionRecipe:
    return DetectionRecipe.published(
        "coco", detector, title, f"transxnet_{variant}", ", 1x",
        augment=Augmentation(), train=_one_x(weight_decay=weight_decay, sync_bn=True),
        drop_path=TRANSXNET_DROP_PATH[variant],
    )  # fmt: skip


def _dino(variant: str, levels: int) -> DetectionRecipe:
    return DetectionRecipe.published(
        "coco", "dino", f"DINO ({levels} scales)", f"transnext_{variant}", "",
        name=f"coco.{DINO_LEVELS[variant, levels]}_transnext_{variant}", options={"num_levels": levels},
        augment=MULTI_SCALE, keep_empty=True, drop_path=TRANSNEXT_DROP_PATH[variant],
        train=_one_x(milestones=(11,), warmup_steps=0, clip_norm=0.1, lr_factors={"backbone.": 0.1}),
    )  # fmt: skip


def _shapes(
    detector: str, title: str, model: str, options: Mapping[str, object], **training: object
) -> DetectionRecipe:
    """A small detector on small images: short side 128, objects of 13 to 64 pixels.

    Images keep their sizes, which strides divide. Where they do not, the last cells of maps reach beyond the image, and
    on images this small that is pixels: DINO, which encodes positions as fractions of maps, then learns shifted boxes.
    """
    options = {"short": 128, "long": 192, **options}
    return DetectionRecipe.on_shapes(
        detector, title, model, {"lr": 1e-3, **training}, options=options, augment=SMALL, keep_empty=True
    )


def _shapes_mask_rcnn() -> DetectionRecipe:
    head = {
        "channels": 64, "hidden": 128, "mask_convs": 2, "anchor_scale": 4, "finest": 28, "anchor_samples": 128,
        "box_samples": 64, "candidates": (300, 300), "proposals": 200, "most": 50,
    }  # fmt: skip
    return _shapes("mask_rcnn", "Mask R-CNN", "transnext_atto", {"position_bias": "extrapolate", **head}, epochs=5)


def _shapes_retinanet() -> DetectionRecipe:
    head = {"channels": 64, "convs": 2, "anchor_scale": 3, "most": 50}
    return _shapes("retinanet", "RetinaNet", "transxnet_atto", head, epochs=10)


def _shapes_dino() -> DetectionRecipe:
    head = {
        "dim": 64, "heads": 4, "mlp_dim": 256, "encoder_layers": 2, "decoder_layers": 3, "queries": 60,
        "denoising_queries": 30, "max_detections": 50, "position_bias": "extrapolate",
    }  # fmt: skip
    return _shapes("dino", "DINO", "transnext_atto", head, epochs=8, batch_size=4, lr=7e-4)


MAKERS: tuple[Callable[[], DetectionRecipe], ...] = (
    *(partial(_mask_rcnn_transnext, variant) for variant in TRANSNEXT_DROP_PATH),
    *(partial(_transxnet, "mask_rcnn", "Mask R-CNN", 0.05, variant) for variant in TRANSXNET_DROP_PATH),
    *(partial(_transxnet, "retinanet", "RetinaNet", 1e-4, variant) for variant in TRANSXNET_DROP_PATH),
    *(partial(_dino, variant, levels) for variant, levels in DINO_LEVELS),
    _shapes_mask_rcnn,
    _shapes_retinanet,
    _shapes_dino,
)
RECIPES = {make().name: make for make in MAKERS}
