"""What training does to images and their labels: sizes, crops, mirror images, colours.

All randomness is PyTorch's, so a draw's seed decides it.
"""

from dataclasses import dataclass, replace

import torch
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from foveal.errors import FovealError
from foveal.tasks.segmentation.data.photometric import LARGEST_HUE, Photometric
from foveal.tasks.segmentation.data.resizing import ResizedLabels, random_square
from foveal.tasks.segmentation.segmenter import IGNORED


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
        brightness, contrast, saturation, hue: see ``Photometric``. MMSegmentation's 18 of hue are OpenCV's, whose
            circle of 8 bits has 180: 36 degrees.
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
        self.photometric = Photometric(
            augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue
        )

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class: image (3, H, W), labels int64 (H, W); returned with ``crop`` as both sides."""
        asked = self.augmentation
        height, width = random_size(asked, image.shape[-2], image.shape[-1])
        top, left, labels = random_square(ResizedLabels(labels, height, width), asked.crop, asked.largest_share)
        image = F.resize(image, [height, width], antialias=True)[..., top : top + asked.crop, left : left + asked.crop]
        if torch.rand(()) < asked.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        return fill_up(self.photometric(image.contiguous() / 255), labels, asked.crop)


def random_size(augmentation: Augmentation, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image of this height and width when it is resized."""
    low, high = augmentation.ratio
    factor = low + (high - low) * float(torch.rand(()))
    if augmentation.short is not None:
        short, long = sorted((height, width))
        factor *= min(augmentation.short / short, augmentation.long / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def fill_up(image: Tensor, labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Image (3, h, w), float, and labels (h, w) made square at the right and below: mean colour and ``IGNORED``."""
    height, width = labels.shape
    if (height, width) == (side, side):
        return image, labels.contiguous()
    filled = image.new_tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1).repeat(1, side, side)
    filled[:, :height, :width] = image
    ignored = labels.new_full((side, side), IGNORED)
    ignored[:height, :width] = labels
    return filled, ignored
