"""What training does to images and what is in them: sizes, crops, mirror images, colours.

All randomness is PyTorch's, so a draw's seed decides it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from foveal.errors import FovealError
from foveal.tasks.detection.data.resizing import RandomPiece, RandomScale, RandomShortSide

Target = dict[str, Tensor]
THINNEST = 1.0  # pixel: boxes with a smaller side after augmentation are taken out


@dataclass(frozen=True)
class Augmentation:
    """The defaults are the COCO recipes' that TransNeXt and TransXNet were trained with (MMDetection's 1x schedule).

    Attributes:
        short: the short side in pixels becomes one of these, the long one follows; empty: sizes stay as they are.
        long: what the long side must not exceed, before ``short``.
        crop: DETR's augmentation, which DINO's recipe has: half of the images are first brought to a short side of one
            of ``crop_short``, and cut to a random piece whose sides are in this range of pixels. None: no crop.
        scale: both sides by a factor of this range, before all else but the mirror.
        flip: how often an image is mirrored.
        colour: how far brightness, contrast and saturation go, 0.4 being from 0.6 to 1.4.
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
        """The same for images of another size: all sides in pixels times ``factor``, also of images that would else
        stay as they are."""

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


#: DINO's, DETR's own: short sides from 480 to 800, half of the images cut before that.
MULTI_SCALE = Augmentation(short=tuple(range(480, 801, 32)), crop=(384, 600))
#: For small images, whose sizes stay as they are.
SMALL = Augmentation(short=(), colour=0.3)


class Augment:
    """``Augmentation`` as a transform: (uint8 image, target) -> (float image in [0, 1], target).

    Boxes, masks and areas follow the image. What lies beyond its border is cut off; an object whose box has less than
    a pixel left is taken out with its label and mask.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        steps: list[Callable[..., Any]] = [v2.RandomHorizontalFlip(augmentation.flip), *_sizes(augmentation)]
        if augmentation.colour:
            steps.append(v2.ColorJitter(*[augmentation.colour] * 3))
        self.augmentation, self.steps = augmentation, v2.Compose(steps)

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """See the class; the image is (3, H, W), the target as ``CocoImages`` gives it, with masks or without."""
        size = tuple(image.shape[-2:])
        boxes: Any = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)  # type: ignore[call-overload]
        moving = {"image": tv_tensors.Image(image), "boxes": boxes}
        if "masks" in target:
            moving["masks"] = tv_tensors.Mask(target["masks"])
        moved = {name: value.as_subclass(Tensor) for name, value in self.steps(moving).items()}
        return moved.pop("image") / 255, _whole({**target, **moved}, _areas(target["boxes"]))


def _sizes(augmentation: Augmentation) -> list[Callable[..., Any]]:
    steps: list[Callable[..., Any]] = []
    if augmentation.scale != (1.0, 1.0):
        steps.append(RandomScale(*augmentation.scale))
    if augmentation.crop:
        pieces = [RandomShortSide(augmentation.crop_short), RandomPiece(*augmentation.crop)]
        steps.append(v2.RandomApply(pieces, p=0.5))
    if augmentation.short:
        steps.append(RandomShortSide(augmentation.short, augmentation.long))
    return steps


def _whole(target: Target, areas: Tensor) -> Target:
    """The objects of which something is left; ``areas`` are those of their boxes before."""
    boxes = target["boxes"]
    sides = boxes[:, 2:] - boxes[:, :2]
    target = {**target, "area": target["area"] * _areas(boxes) / areas}  # as far as the box tells
    left = (sides >= THINNEST).all(1)
    return {name: value if name == "image_id" else value[left] for name, value in target.items()}


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
