"""Training augmentation: sizes, crops, mirroring, colours.

All randomness is PyTorch's, so it follows from a sample's seed.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from foveal.errors import FovealError
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.types import Size

CHANCE = 0.5  # probability of each of the four distortions
LARGEST_HUE = 60.0  # degrees; within it ``shift_hue`` needs no modulus
TRIES = 10  # to find a crop that is not dominated by one class


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings, by default MMSegmentation's for ADE20K, which TransNeXt and TransXNet were trained with.

    Attributes:
        short, long: the short side is resized to ``short`` pixels, or less if the long one would exceed ``long``,
            keeping the aspect ratio. ``short=None`` keeps sizes.
        ratio: range of a uniformly random factor that then multiplies both sides.
        crop: side in pixels of the square crop; smaller images are padded.
        largest_share: a crop in which one class has at least this share of the labelled pixels is resampled, at most
            ten times; 1 accepts the first one.
        flip: probability of mirroring.
        brightness, contrast, saturation, hue: see ``PhotometricDistortion``. MMSegmentation's hue of 18 is in OpenCV's
            8-bit units, 180 per circle: 36 degrees.
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
            raise FovealError("The sides of an augmentation must be at least 1 pixel.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise FovealError(
                f"The ratio of an augmentation must be a range from low to high above 0, not {self.ratio}."
            )
        if not (0 < self.largest_share <= 1 and all(0 <= v <= 1 for v in (self.flip, self.contrast, self.saturation))):
            raise FovealError("largest_share, flip, contrast and saturation of an augmentation must be from 0 to 1.")
        if not (0 <= self.brightness <= 255 and 0 <= self.hue <= LARGEST_HUE):
            raise FovealError(
                f"brightness of an augmentation must be from 0 to 255, and hue from 0 to {LARGEST_HUE:g} degrees."
            )

    def scaled(self, factor: float) -> "Augmentation":
        """Return the settings for images of another size: all sides in pixels times ``factor``.

        Images that would keep their size are scaled as well.
        """

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
#: For the synthetic shapes, whose sizes are kept.
SMALL = Augmentation(
    short=None, ratio=(1.0, 1.0), crop=128, largest_share=1.0, brightness=16.0, contrast=0.25, saturation=0.25, hue=9.0
)


class Augment:
    """Transform (uint8 image, labels) to (float image in [0, 1], labels), all of the same size.

    If the image ends within the crop, it is padded with the mean colour, which the network sees as 0, and the labels
    with ``IGNORED``. Images are resized with antialiasing, as in detection and unlike in MMSegmentation, since
    downsampled ones would show moiré. Labels are resized to the nearest.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self.photometric = PhotometricDistortion(
            augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue
        )

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augment an image (3, H, W) and labels int64 (H, W); both are returned with sides of ``crop``."""
        settings = self.augmentation
        height, width = random_size(settings, image.shape[-2], image.shape[-1])
        top, left, labels = random_crop(ResizedLabels(labels, height, width), settings.crop, settings.largest_share)
        image = F.resize(image, [height, width], antialias=True)[
            ..., top : top + settings.crop, left : left + settings.crop
        ]
        if torch.rand(()) < settings.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        return pad_to_square(self.photometric(image.contiguous() / 255), labels, settings.crop)


def random_size(augmentation: Augmentation, height: int, width: int) -> Size:
    """Return a random (height, width) that an image of this height and width is resized to."""
    low, high = augmentation.ratio
    factor = low + (high - low) * float(torch.rand(()))
    if augmentation.short is not None:
        short, long = sorted((height, width))
        factor *= min(augmentation.short / short, augmentation.long / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def pad_to_square(image: Tensor, labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Pad an image (3, h, w), float, and labels (h, w) at the right and bottom with mean colour and ``IGNORED``."""
    height, width = labels.shape
    if (height, width) == (side, side):
        return image, labels.contiguous()
    filled = image.new_tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1).repeat(1, side, side)
    filled[:, :height, :width] = image
    ignored = labels.new_full((side, side), IGNORED)
    ignored[:height, :width] = labels
    return filled, ignored


@dataclass(frozen=True)
class PhotometricDistortion:
    """Random brightness, contrast, saturation and hue, as in SSD (Liu et al. 2016) and MMSegmentation.

    Each of the four is sampled uniformly from its range and applied with probability 0.5. torchvision's
    ``RandomPhotometricDistort`` differs: it multiplies brightness, changes contrast around the mean and swaps channels.

    Attributes:
        brightness: largest offset of all channels, in levels of 255.
        contrast: 0.5 multiplies all channels by 0.5 to 1.5, before or after saturation and hue, at random.
        saturation: 0.5 multiplies the HSV saturation by 0.5 to 1.5.
        hue: largest offset of the HSV hue in degrees, up to 60.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, image: Tensor) -> Tensor:
        """Distort an image (3, H, W), float in [0, 1]; values are clamped to [0, 1]."""
        applied = (torch.rand(4) < CHANCE).tolist()
        brightness, contrast, saturation, hue = (2 * torch.rand(4) - 1).tolist()  # in units of the ranges
        contrast_first = bool(torch.rand(()) < 0.5)
        if applied[0] and self.brightness:
            image = (image + brightness * self.brightness / 255).clamp_(0, 1)
        with_contrast = applied[1] and self.contrast
        if with_contrast and contrast_first:
            image = (image * (1 + contrast * self.contrast)).clamp_(0, 1)
        if applied[2] and self.saturation:
            image = multiply_saturation(image, 1 + saturation * self.saturation)
        if applied[3] and self.hue:
            image = shift_hue(image, hue * self.hue)
        if with_contrast and not contrast_first:
            image = (image * (1 + contrast * self.contrast)).clamp_(0, 1)
        return image


def multiply_saturation(image: Tensor, factor: float) -> Tensor:
    """Multiply the HSV saturation of an image (3, H, W) by ``factor``, clamped to 1; hue and value stay."""
    value = image.amax(0)
    if factor <= 1:
        return torch.lerp(value, image, factor)
    chroma = value - image.amin(0)
    most = value / chroma.clamp_(min=torch.finfo(image.dtype).tiny)  # 1 / saturation
    missing = (value - image).mul_(
        most.clamp_(max=factor)
    )  # in place: allocating memory costs more than the arithmetic
    return missing.neg_().add_(value).clamp_(min=0)  # rounding may end just below 0


def shift_hue(image: Tensor, degrees: float) -> Tensor:
    """Add ``degrees``, -60 to 60, to the HSV hue of an image (3, H, W); saturation and value stay."""
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
    shifted = torch.empty_like(image)
    for channel, shift in zip(shifted, (5, 3, 1), strict=True):
        # The full chroma is subtracted where hue + shift is 2 sixths, modulo 6, and nothing from 2 sixths away on.
        away = torch.add(hue, shift - 5, out=safe).abs_().sub_(3).abs_()
        torch.addcmul(value, away.neg_().add_(2).clamp_(0, 1), chroma, value=-1, out=channel)
    return shifted.clamp_(min=0)


class ResizedLabels:
    """Labels (H, W) resized to (height, width), each taken from the pixel with the nearest centre.

    Only crops are computed: a crop is a quarter of an image that was doubled in size.
    """

    def __init__(self, labels: Tensor, height: int, width: int) -> None:
        self.shape = height, width
        self._labels = labels.numpy()  # NumPy's take is several times faster
        self._rows, self._columns = (_nearest(*sides) for sides in zip(labels.shape, self.shape, strict=True))

    def cut(self, top: int, left: int, side: int) -> Tensor:
        """Return the square of ``side`` pixels at (top, left), as far as it lies within the labels."""
        rows, columns = self._rows[top : top + side], self._columns[left : left + side]
        strip = self._labels[rows[0] : rows[-1] + 1]
        return torch.from_numpy(strip.take(columns, axis=1).take(rows - rows[0], axis=0))


def _nearest(old: int, new: int) -> np.ndarray:
    """Return (new,): index of the old pixel that contains each new pixel's centre, the second one at a tie."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def random_crop(labels: ResizedLabels, side: int, largest_share: float) -> tuple[int, int, Tensor]:
    """Return top and left of a random square of ``side`` pixels, 0 along a shorter side, and the labels within it.

    As in MMSegmentation, squares dominated by one class are rejected up to ``TRIES`` times, including those with a
    single class or only ignored pixels; the next one is accepted in any case.
    """
    free = [max(length - side, 0) for length in labels.shape]
    for _ in range(TRIES if largest_share < 1 and any(free) else 0):
        top, left = _random_corner(free)
        square = labels.cut(top, left, side)
        if is_mixed(square, largest_share):
            return top, left, square
    top, left = _random_corner(free)
    return top, left, labels.cut(top, left, side)


def _random_corner(free: list[int]) -> tuple[int, int]:
    top, left = (int(torch.randint(most + 1, ())) for most in free)
    return top, left


def is_mixed(labels: Tensor, largest_share: float) -> bool:
    """Return whether there are labelled pixels and every class has less than this share of them."""
    counts = torch.bincount(labels.flatten(), minlength=IGNORED + 1)
    counts[IGNORED] = 0
    return bool(counts.max() < largest_share * counts.sum())
