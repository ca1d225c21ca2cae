"""Preprocessing of images: the papers' augmentation for training, their resize and crop for evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from timm.data.transforms import MaybeToTensor
from torchvision.transforms import Compose

from foveal.errors import FovealError
from foveal.tasks.classification.names import Strength
from foveal.types import Size


@dataclass(frozen=True)
class Preprocessing:
    """Deterministic resize, crop and normalisation to ``size``.

    If the smaller side of ``size`` is below ``whole_from``, the image's short side is resized such that the centre crop
    covers the fraction ``crop`` of it. Otherwise the whole image is resized to ``size``, ignoring its aspect ratio.
    """

    size: Size
    crop: float = 0.875
    whole_from: int | None = 384
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD

    @property
    def takes_whole_image(self) -> bool:
        """Whether images are resized without cropping."""
        return self.whole_from is not None and min(self.size) >= self.whole_from

    def transform(self) -> Compose:
        """Return a function from a PIL image in RGB to a float tensor (3, height, width)."""
        return create_transform(
            self.size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=1.0 if self.takes_whole_image else self.crop,
            crop_mode="squash" if self.takes_whole_image else "center",
        )

    def halves(self) -> tuple[Callable, Callable]:
        """Return ``transform`` in two parts: from a PIL image in RGB to one of this size, and on to the tensor."""
        steps = self.transform().transforms
        at = next(place for place, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        return Compose(steps[:at]), Compose(steps[at:])


#: What ``--augment`` sets. Aspect ratios and flips stay those of a recipe, except with none, which takes the central
#: square of an image. Colour jitter acts where there is no RandAugment. "strong" is that of the papers.
STRENGTHS: dict[Strength, dict[str, Any]] = {
    "none": {
        "crop_scale": (1.0, 1.0), "rand_augment": None, "color_jitter": 0.0, "erasing": 0.0,
        "crop_ratio": (1.0, 1.0), "flip": 0.0,
    },
    "light": {"crop_scale": (0.6, 1.0), "rand_augment": None, "color_jitter": 0.2, "erasing": 0.0},
    "medium": {
        "crop_scale": (0.35, 1.0), "rand_augment": "rand-m5-n1-mstd0.5-inc1", "color_jitter": 0.3, "erasing": 0.1,
    },
    "strong": {"crop_scale": (0.08, 1.0), "rand_augment": "rand-m9-mstd0.5-inc1", "color_jitter": 0.4, "erasing": 0.25},
}  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """Training augmentation, by default that of both papers' ImageNet training.

    Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) act on batches: each batch is mixed with probability
    ``mix_prob``, by CutMix with probability ``switch_prob`` if both are enabled. ``repeats`` is the number of views of
    an image per epoch.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    color_jitter: float = 0.4
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_prob: float = 1.0
    switch_prob: float = 0.5
    label_smoothing: float = 0.1
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise FovealError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not 0 <= self.label_smoothing < 1:
            raise FovealError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}.")

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is enabled."""
        return self.mixup > 0 or self.cutmix > 0

    def __str__(self) -> str:
        """The augmentation in words, without what is switched off."""
        low, high = (f"{100 * share:g}" for share in self.crop_scale)
        parts = [f"crops of {low} to {high} % of the image"]
        parts += ["flips"] if self.flip else []
        parts += [f"colour jitter {self.color_jitter:g}"] if self.color_jitter and not self.rand_augment else []
        parts += [f"RandAugment {self.rand_augment}"] if self.rand_augment else []
        for name in ("erasing", "mixup", "cutmix", "label_smoothing"):
            value = getattr(self, name)
            parts += [f"{name.replace('_', ' ')} {value:g}"] if value else []
        return ", ".join(parts)

    def check_device_batch(self, images: int) -> None:
        """Raise FovealError if this number of images in a forward pass cannot be mixed in pairs."""
        if self.mixes and images % 2:
            raise FovealError(
                f"Mixup pairs the images of a batch, and a device batch of {images} is odd: "
                "pass an even --device-batch-size."
            )

    def transform(self, fit: Preprocessing) -> Callable:
        """Return a function from a PIL image in RGB to an augmented float tensor (3, height, width).

        Size, interpolation and normalisation are those of ``fit``.
        """
        return create_transform(
            fit.size,
            is_training=True,
            scale=self.crop_scale,
            ratio=self.crop_ratio,
            hflip=self.flip,
            color_jitter=self.color_jitter,
            auto_augment=self.rand_augment,
            interpolation=fit.interpolation,
            mean=fit.mean,
            std=fit.std,
            re_prob=self.erasing,
            re_mode="pixel",
            re_count=1,
        )
