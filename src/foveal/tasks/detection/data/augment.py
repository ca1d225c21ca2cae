"""Augmentation of images and their objects: random sizes, crops, flips and colours.

All randomness comes from PyTorch's global generator, so that a sample follows from its seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from foveal.errors import FovealError

Target = dict[str, Tensor]
THINNEST = 1.0  # pixel: objects whose box has a shorter side after augmentation are dropped


@dataclass(frozen=True)
class Augmentation:
    """Settings of ``Augment``. The defaults are those of TransNeXt's and TransXNet's COCO recipes (MMDetection's 1x).

    Attributes:
        short: the short side is resized to one of these, in pixels, keeping the aspect ratio; empty for no resizing.
        long: upper bound of the long side, which takes precedence over ``short``.
        crop: DETR's augmentation, part of DINO's recipe: half of the images are first resized to a short side from
            ``crop_short`` and cropped to random sides within this range of pixels. None for no crop.
        crop_short: see ``crop``.
        scale: range of a factor for both sides, applied first except for the flip.
        flip: probability of a horizontal flip.
        colour: strength of the changes in brightness, contrast and saturation; 0.4 means factors from 0.6 to 1.4.
    """

    short: tuple[int, ...] = (800,)
    long: int = 1333
    crop: tuple[int, int] | None = None
    crop_short: tuple[int, ...] = (400, 500, 600)
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    colour: float = 0.0

    def __post_init__(self) -> None:
        if any(side < 1 for side in (*self.short, self.long, *self.crop_short, *(self.crop or ()))):
            raise FovealError("Sides of an augmentation must be at least one pixel.")
        if not 0 < self.scale[0] <= self.scale[1] or (self.crop and self.crop[0] > self.crop[1]):
            raise FovealError(f"scale {self.scale} and crop {self.crop} must be ranges from low to high.")
        if not (0 <= self.flip <= 1 and 0 <= self.colour <= 1):
            raise FovealError("flip and colour of an augmentation must be from 0 to 1.")

    def scaled(self, factor: float) -> "Augmentation":
        """Return the settings for images of another size: all sides multiplied by ``factor``.

        Images that are otherwise not resized are scaled by ``factor`` too.
        """

        def side(pixels: int) -> int:
            return max(1, round(factor * pixels))

        return replace(
            self,
            short=tuple(map(side, self.short)),
            long=side(self.long),
            crop=self.crop and (side(self.crop[0]), side(self.crop[1])),
            crop_short=tuple(map(side, self.crop_short)),
            scale=self.scale if self.short else (factor * self.scale[0], factor * self.scale[1]),
        )


#: DINO's augmentation, from DETR: short sides from 480 to 800, half of the images cropped first.
MULTI_SCALE = Augmentation(short=tuple(range(480, 801, 32)), crop=(384, 600))
#: For small images, which are not resized.
SMALL = Augmentation(short=(), colour=0.3)


class Augment:
    """``Augmentation`` as a transform: (uint8 image, target) -> (float image in [0, 1], target).

    Boxes, masks and areas are transformed with the image and clipped to it. An object of whose box less than a pixel is
    left is dropped with its label and mask.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        steps: list[Callable[..., Any]] = [v2.RandomHorizontalFlip(augmentation.flip), *_sizes(augmentation)]
        if augmentation.colour:
            steps.append(v2.ColorJitter(*[augmentation.colour] * 3))
        self.augmentation, self.steps = augmentation, v2.Compose(steps)

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """Augment an image (3, H, W) and its target, as from ``CocoImages``, with or without masks."""
        size = tuple(image.shape[-2:])
        boxes: Any = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)  # type: ignore[call-overload]
        inputs = {"image": tv_tensors.Image(image), "boxes": boxes}
        if "masks" in target:
            inputs["masks"] = tv_tensors.Mask(target["masks"])
        outputs = {name: value.as_subclass(Tensor) for name, value in self.steps(inputs).items()}
        return outputs.pop("image") / 255, _drop_vanished({**target, **outputs}, _areas(target["boxes"]))


def _sizes(augmentation: Augmentation) -> list[Callable[..., Any]]:
    steps: list[Callable[..., Any]] = []
    if augmentation.scale != (1.0, 1.0):
        steps.append(RandomScale(*augmentation.scale))
    if augmentation.crop:
        crop = [RandomShortSide(augmentation.crop_short), RandomSizedCrop(*augmentation.crop)]
        steps.append(v2.RandomApply(crop, p=0.5))
    if augmentation.short:
        steps.append(RandomShortSide(augmentation.short, augmentation.long))
    return steps


def _drop_vanished(target: Target, areas: Tensor) -> Target:
    """Return the target without vanished objects; ``areas`` are those of the boxes before augmentation."""
    boxes = target["boxes"]
    sides = boxes[:, 2:] - boxes[:, :2]
    target = {**target, "area": target["area"] * _areas(boxes) / areas}  # estimated from the box
    left = (sides >= THINNEST).all(1)
    return {name: value if name == "image_id" else value[left] for name, value in target.items()}


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


class _Resize(v2.Transform):
    """Resize to ``params["size"]``: images bilinear with antialiasing, masks to the pixel with the nearest centre.

    torchvision resizes masks to the pixel with the nearest corner, which shifts them by up to half a pixel relative to
    the boxes; 0.26 also if asked for the nearest centre. So masks are resized as images here.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            resized = F.resize_image(inpt.as_subclass(Tensor), params["size"], InterpolationMode.NEAREST_EXACT)
            return tv_tensors.wrap(resized, like=inpt)
        mode = InterpolationMode.BILINEAR
        return self._call_kernel(F.resize, inpt, size=params["size"], interpolation=mode, antialias=True)


class RandomShortSide(_Resize):
    """Resize the short side to one of ``sides``, or less if the long side would exceed ``longest``."""

    def __init__(self, sides: Sequence[int], longest: int | None = None) -> None:
        super().__init__()
        self.sides, self.longest = tuple(sides), longest

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        factor = self.sides[int(torch.randint(len(self.sides), ()))] / min(height, width)
        if self.longest is not None:
            factor = min(factor, self.longest / max(height, width))
        return {"size": [max(round(height * factor), 1), max(round(width * factor), 1)]}


class RandomScale(_Resize):
    """Scale both sides by a factor between ``low`` and ``high``, whose logarithm is uniformly distributed."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        factor = self.low * (self.high / self.low) ** float(torch.rand(()))
        return {"size": [max(round(height * factor), 1), max(round(width * factor), 1)]}


class _Crop(v2.Transform):
    """Crop to ``params`` (top, left, height and width) and clip boxes to the crop."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(F.crop, inpt, **params)


class RandomSizedCrop(_Crop):
    """Crop to random sides between ``low`` and ``high`` pixels, or the image's own if shorter, at a random position."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        sides = v2.query_size(flat_inputs)
        return _random_position(sides, [_random_integer(min(self.low, side), min(self.high, side)) for side in sides])


def _random_position(sides: Sequence[int], lengths: Sequence[int]) -> dict[str, int]:
    top, left = (_random_integer(0, side - length) for side, length in zip(sides, lengths, strict=True))
    return {"top": top, "left": left, "height": lengths[0], "width": lengths[1]}


def _random_integer(low: int, high: int) -> int:
    """Return a random integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, ()))
