"""Random brightness, contrast, saturation and hue, as SSD (Liu et al. 2016) and after it MMSegmentation distort them.

torchvision's ``RandomPhotometricDistort`` is another one: it multiplies brightness, draws contrast around the mean and
swaps channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CHANCE = 0.5  # of each of the four
LARGEST_HUE = 60.0  # degrees; within it ``turn_hue`` needs no modulus


@dataclass(frozen=True)
class Photometric:
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
    return (value - (value - image) * most.clamp_(max=factor)).clamp_(min=0)  # rounding may end just below


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
        away = (hue + (shift - 5)).abs_().sub_(3).abs_()
        torch.addcmul(value, away.neg_().add_(2).clamp_(0, 1), chroma, value=-1, out=channel)
    return turned.clamp_(min=0)
