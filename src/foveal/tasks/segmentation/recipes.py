"""The segmentation recipes by name; ``ade20k.*`` have the settings of the papers.

TransNeXt: Shi 2024, arXiv:2311.17132, appendix C.4, and its released settings. TransXNet: Lou et al. 2023,
arXiv:2310.19380, section IV-C. Where our training differs from theirs, or they leave it open:

- an epoch is a tenth of the iterations, after which all are evaluated;
- no bias or other vector has weight decay; theirs excluded only norms and TransNeXt's own exceptions;
- everything is fp32 unless asked otherwise; batch norm is synchronised;
- the whole backbone of Mask2Former learns at a tenth of the rate; their patterns miss the last stage's embedding and
  norm, which so learnt at the full one;
- Mask2Former's schedule and clipping are its own paper's (Cheng et al. 2021, arXiv:2112.01527), and its images are
  resized by any factor instead of sixteen;
- TransXNet's drop path in segmentation is not published: ours is that of ImageNet.

``shapes.*`` train small segmenters from random weights on generated images (see ``tasks.dense.shapes``) in minutes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from foveal.tasks.dense.create import DenseRecipe
from foveal.tasks.segmentation.data import PUBLISHED, SMALL
from foveal.tasks.segmentation.data.augment import Augmentation
from foveal.tasks.segmentation.inference import ALIGNED, SLIDING, WHOLE, Inference
from foveal.tasks.segmentation.segmenter import create_segmenter
from foveal.training.config import TrainConfig

UPERNET_DROP_PATH = {"tiny": 0.4, "small": 0.6, "base": 0.7}
MASK2FORMER_DROP_PATH = {"tiny": 0.3, "small": 0.5, "base": 0.6}
TRANSXNET_DROP_PATH = {"t": 0.1, "s": 0.2, "b": 0.4}


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(DenseRecipe):
    """A segmenter on a backbone (``model``) and all that its training depends on beside the images."""

    kind: ClassVar[str] = "segmentation"
    create_head = staticmethod(create_segmenter)
    segmenter: str
    """The head: "upernet", "mask2former" or "semantic_fpn"."""
    augment: Augmentation
    inference: Inference
    """How images are seen when they are evaluated."""
    zero_ignored: bool = True
    """Whether 0 in a label map is no class, and class 0 is written as 1 (ADE20K)."""

    mask_suffix: str | None = None
    """What a label map's name has after that of its image; None if the layout says it."""

    def with_size(self, size: int) -> "SegmentationRecipe":
        """The recipe for crops of this many pixels; all other sides in proportion."""
        factor = size / self.augment.crop
        return replace(self, augment=self.augment.scaled(factor), inference=self.inference.scaled(factor))


def _iterations(count: int, **settings: object) -> TrainConfig:
    """A schedule that counts updates, evaluated ten times."""
    return TrainConfig(**{  # type: ignore[arg-type]
        "epochs": 10, "epoch_steps": count // 10, "min_lr": 0.0, "workers": 4, "sync_bn": True, "log_every": 50,
        "save_steps": 2000, **settings,
    })  # fmt: skip


def _upernet(variant: str) -> SegmentationRecipe:
    train = _iterations(
        160_000, batch_size=16, device_batch_size=2, lr=6e-5, schedule="poly", warmup_steps=1500, warmup_lr=6e-11,
        weight_decay=0.05,
    )  # fmt: skip
    return _ade20k("upernet", "UPerNet", f"transnext_{variant}", "160k", SLIDING, UPERNET_DROP_PATH, train)


def _mask2former(variant: str) -> SegmentationRecipe:
    train = _iterations(
        160_000, batch_size=16, device_batch_size=2, lr=1e-4, schedule="poly", power=0.9, warmup_steps=0,
        weight_decay=0.05, clip_norm=0.01, lr_factors={"backbone.": 0.1},
    )  # fmt: skip
    return _ade20k("mask2former", "Mask2Former", f"transnext_{variant}", "160k", WHOLE, MASK2FORMER_DROP_PATH, train)


def _semantic_fpn(variant: str) -> SegmentationRecipe:
    train = _iterations(
        80_000, batch_size=32, device_batch_size=4, lr=2e-4, min_lr=2e-12, schedule="cosine", warmup_steps=1000,
        warmup_lr=2e-5, weight_decay=1e-4,
    )  # fmt: skip
    return _ade20k("semantic_fpn", "Semantic FPN", f"transxnet_{variant}", "80k", ALIGNED, TRANSXNET_DROP_PATH, train)


def _ade20k(
    segmenter: str,
    title: str,
    model: str,
    iterations: str,
    inference: Inference,
    drop_paths: Mapping[str, float],
    train: TrainConfig,
) -> SegmentationRecipe:
    return SegmentationRecipe.published(
        "ade20k", segmenter, title, model, f", {iterations} iterations",
        augment=PUBLISHED, inference=inference, drop_path=drop_paths[model.split("_")[1]], train=train,
    )  # fmt: skip


def _shapes(
    segmenter: str, title: str, model: str, head: Mapping[str, object], **training: object
) -> SegmentationRecipe:
    """A small segmenter on small images: crops of 128 pixels, objects of 13 to 64."""
    options = {"reference_size": 128, "position_bias": "extrapolate", **head}
    return SegmentationRecipe.on_shapes(
        segmenter, title, model, {"lr": 2e-3, **training}, options=options, augment=SMALL,
        inference=Inference(short=None), zero_ignored=False,
    )  # fmt: skip


def _shapes_upernet() -> SegmentationRecipe:
    head = {"channels": 64, "auxiliary_channels": 32}
    return _shapes("upernet", "UPerNet", "transnext_atto", head, epochs=14)


def _shapes_mask2former() -> SegmentationRecipe:
    head = {
        "dim": 64, "heads": 4, "queries": 20, "encoder_layers": 2, "encoder_mlp_dim": 256, "decoder_layers": 3,
        "mlp_dim": 256, "train_points": 1024,
    }  # fmt: skip
    # A backbone without trained weights: at the rate of the head 18 epochs come to a mean IoU of 62.
    return _shapes(
        "mask2former", "Mask2Former", "transnext_atto", head, epochs=22, lr=1e-3, lr_factors={"backbone.": 2.0}
    )


def _shapes_semantic_fpn() -> SegmentationRecipe:
    head = {"pyramid_channels": 64, "channels": 64}
    return _shapes("semantic_fpn", "Semantic FPN", "transxnet_atto", head, epochs=20)


MAKERS: tuple[Callable[[], SegmentationRecipe], ...] = (
    *(partial(_upernet, variant) for variant in UPERNET_DROP_PATH),
    *(partial(_mask2former, variant) for variant in MASK2FORMER_DROP_PATH),
    *(partial(_semantic_fpn, variant) for variant in TRANSXNET_DROP_PATH),
    _shapes_upernet,
    _shapes_mask2former,
    _shapes_semantic_fpn,
)
RECIPES = {make().name: make for make in MAKERS}
