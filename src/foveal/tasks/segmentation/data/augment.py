"""Training augmentation: sizes, crops, mirroring, colours.

All randomness is PyTorch's, so a sample's seed decides it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from foveal.errors import FovealError
from foveal.tasks.segmentation.segmenter import IGNORED

CHANCE = 0.5  # of each of the four
LARGEST_HUE = 60.0  # degrees; within it ``turn_hue`` needs no modulus


@dataclass(frozen=True)
class PhotometricDistortion:
    """Each of the four is drawn evenly from its range and applied to half of the images.

    Attributes:
        brightness: added to all channels, at most so many of 255 levels.
        contrast: 0.5 multiplies all channels by 0.5 to 1.5; before or after the next two, by chance.
        saturation: 0.5 multiplies the saturation of HSV by 0.5 to 1.5.
        hue: added to the hue of HSV, at most so many degrees, up to 60.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, image: Tensor) -> Tensor:
        """The image (3, H, W), float in [0, 1], distorted; what leaves [0, 1] is cut off."""
        applied = (torch.rand(4) < CHANCE).tolist()
        brightness, contrast, saturation, hue = (2 * torch.rand(4) - 1).tolist()  # of the ranges, -1 to 1
        contrast_first = bool(torch.rand(()) < 0.5)
        if applied[0] and self.brightness:
            image = (image + brightness * self.brightness / 255).clamp_(0, 1)
        with_contrast = applied[1] and self.contrast
        if with_contrast and contrast_first:
            image = (image * (1 + contrast * self.contrast)).clamp_(0, 1)
        if applied[2] and self.saturation:
            image = multiply_saturation(image, 1 + saturation * self.saturation)
        if applied[3] and self.hue:
            image = turn_hue(image, hue * self.hue)
        if with_contrast and not contrast_first:
            image = (image * (1 + contrast * self.contrast)).clamp_(0, 1)
        return image


def multiply_saturation(image: Tensor, factor: float) -> Tensor:
    """The image (3, H, W) with its saturation of HSV times ``factor``, at most 1; hue and value stay."""
    value = image.amax(0)
    if factor <= 1:
        return torch.lerp(value, image, factor)
    chroma = value - image.amin(0)
    most = value / chroma.clamp_(min=torch.finfo(image.dtype).tiny)  # 1 / saturation
    missing = (value - image).mul_(most.clamp_(max=factor))  # in place: fresh memory costs more than the sums
    return missing.neg_().add_(value).clamp_(min=0)  # rounding may end just below


def turn_hue(image: Tensor, degrees: float) -> Tensor:
    """The image (3, H, W) with ``degrees``, -60 to 60, added to its hue of HSV; saturation and value stay."""
    red, green, blue = image
    value = image.amax(0)
    chroma = value - image.amin(0)
    safe = chroma.clamp(min=torch.finfo(image.dtype).tiny)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )  # in sixths of the circle, -1 to 5
    hue += degrees / 60
    turned = torch.empty_like(image)
    for channel, shift in zip(turned, (5, 3, 1), strict=True):
        # The chroma is missing in full where hue + shift is 2 sixths, modulo 6, and not at all from 2 sixths away on.
        away = torch.add(hue, shift - 5, out=safe).abs_().sub_(3).abs_()
        torch.addcmul(value, away.neg_().add_(2).clamp_(0, 1), chroma, value=-1, out=channel)
    return turned.clamp_(min=0)


TRIES = 10  # for a square that has not too much of one class


class ResizedLabels:
    """Labels (H, W) as they are when resized to (height, width): each that of the nearest pixel's centre.

    Only what is cut out is made: a crop is a quarter of an image twice as large.
    """

    def __init__(self, labels: Tensor, height: int, width: int) -> None:
        self.shape = height, width
        self._labels = labels.numpy()  # whose take is several times faster
        self._rows, self._columns = (_nearest(*sides) for sides in zip(labels.shape, self.shape, strict=True))

    def cut(self, top: int, left: int, side: int) -> Tensor:
        """The square of ``side`` pixels there, or what of it is within."""
        rows, columns = self._rows[top : top + side], self._columns[left : left + side]
        strip = self._labels[rows[0] : rows[-1] + 1]
        return torch.from_numpy(strip.take(columns, axis=1).take(rows - rows[0], axis=0))


def _nearest(old: int, new: int) -> np.ndarray:
    """(new,): of each new pixel the old one in which its centre lies, in whole numbers; of two the second."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def random_crop(labels: ResizedLabels, side: int, largest_share: float) -> tuple[int, int, Tensor]:
    """Top and left of a square of ``side`` pixels, 0 where the labels end within it; and the labels there.

    ``TRIES`` times one with too much of one class is passed over, as MMSegmentation does; the next is taken whatever it
    has. So one with a single class, or nothing but ignored pixels, is passed over too.
    """
    free = [max(length - side, 0) for length in labels.shape]
    for _ in range(TRIES if largest_share < 1 and any(free) else 0):
        top, left = _draw_corner(free)
        square = labels.cut(top, left, side)
        if is_mixed(square, largest_share):
            return top, left, square
    top, left = _draw_corner(free)
    return top, left, labels.cut(top, left, side)


def _draw_corner(free: list[int]) -> tuple[int, int]:
    top, left = (int(torch.randint(most + 1, ())) for most in free)
    return top, left


def is_mixed(labels: Tensor, largest_share: float) -> bool:
    """Whether every class has less than this share of the labelled pixels, of which there must be some."""
    counts = torch.bincount(labels.flatten(), minlength=IGNORED + 1)
    counts[IGNORED] = 0
    return bool(counts.max() < largest_share * counts.sum())


@dataclass(frozen=True)
class Augmentation:
    """The defaults are MMSegmentation's of ADE20K, which TransNeXt and TransXNet were trained with.

    Attributes:
        short, long: what sides in pixels are fitted to, the whole image in proportion: the short side gets ``short``,
            or less where the long one would exceed ``long``. ``short`` None: sizes stay as they are.
        ratio: both sides are then multiplied by a factor from this range, drawn evenly.
        crop: side in pixels of the square that is cut out; where the image ends before it is filled up.
        largest_share: a crop in which one class has this share of the labelled pixels or more is drawn again, ten times
            at most; 1: the first is taken.
        flip: how often an image is mirrored.
        brightness, contrast, saturation, hue: see ``PhotometricDistortion``. MMSegmentation's hue of 18 counts
            OpenCV's units, 180 to the circle: 36 degrees.
    """

    short: int | None = 512
    long: int = 2048
    ratio: tuple[float, float] = (0.5, 2.0)
    crop: int = 512
    largest_share: float = 0.75
    flip: float = 0.5
    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 36.0

    def __post_init__(self) -> None:
        if min(self.long, self.crop, self.long if self.short is None else self.short) < 1:
            raise FovealError("Sides of an augmentation must be at least one pixel.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise FovealError(f"The ratio {self.ratio} of an augmentation must be a range from low to high, above 0.")
        if not (0 < self.largest_share <= 1 and all(0 <= v <= 1 for v in (self.flip, self.contrast, self.saturation))):
            raise FovealError("largest_share, flip, contrast and saturation of an augmentation must be from 0 to 1.")
        if not (0 <= self.brightness <= 255 and 0 <= self.hue <= LARGEST_HUE):
            raise FovealError(
                f"brightness of an augmentation must be from 0 to 255, and hue from 0 to {LARGEST_HUE:g} degrees."
            )

    def scaled(self, factor: float) -> "Augmentation":
        """The same for images of another size: all sides in pixels times ``factor``, also of images that would else
        stay as they are."""

        def side(pixels: int) -> int:
            return max(1, round(factor * pixels))

        low, high = self.ratio
        return replace(
            self,
            short=None if self.short is None else side(self.short),
            long=side(self.long),
            ratio=(factor * low, factor * high) if self.short is None else self.ratio,
            crop=side(self.crop),
        )


PUBLISHED = Augmentation()
#: For the made shapes, whose sizes stay as they are.
SMALL = Augmentation(
    short=None, ratio=(1.0, 1.0), crop=128, largest_share=1.0, brightness=16.0, contrast=0.25, saturation=0.25, hue=9.0
)


class Augment:
    """``Augmentation`` as a transform: (uint8 image, labels) -> (float image in [0, 1], labels), all of one size.

    Where the image ends within the crop, it is filled with the mean colour, which is 0 to the network, and the labels
    with ``IGNORED``. Images are resized with antialiasing, as in detection and unlike in MMSegmentation: halved ones
    would have moiré. Labels are those of the nearest pixel's centre.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.photometric = PhotometricDistortion(
            augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue
        )

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class: image (3, H, W), labels int64 (H, W); returned with ``crop`` as both sides."""
        asked = self.augmentation
        height, width = random_size(asked, image.shape[-2], image.shape[-1])
        top, left, labels = random_crop(ResizedLabels(labels, height, width), asked.crop, asked.largest_share)
        image = F.resize(image, [height, width], antialias=True)[..., top : top + asked.crop, left : left + asked.crop]
        if torch.rand(()) < asked.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        return pad_to_square(self.photometric(image.contiguous() / 255), labels, asked.crop)


def random_size(augmentation: Augmentation, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image of this height and width when it is resized."""
    low, high = augmentation.ratio
    factor = low + (high - low) * float(torch.rand(()))
    if augmentation.short is not None:
        short, long = sorted((height, width))
        factor *= min(augmentation.short / short, augmentation.long / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def pad_to_square(image: Tensor, labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Image (3, h, w), float, and labels (h, w) made square at the right and below: mean colour and ``IGNORED``."""
    height, width = labels.shape
    if (height, width) == (side, side):
        return image, labels.contiguous()
    filled = image.new_tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1).repeat(1, side, side)
    filled[:, :height, :width] = image
    ignored = labels.new_full((side, side), IGNORED)
    ignored[:height, :width] = labels
    return filled, ignored
