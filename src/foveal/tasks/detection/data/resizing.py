"""Random sizes and pieces of an image together with its boxes and masks, as transforms of torchvision."""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F


class _Resize(v2.Transform):
    """Resizes to ``params["size"]``: images bilinear with antialiasing, masks by the nearest pixel's centre.

    torchvision's own resizing takes masks' pixels by their corners, which moves them by up to half a pixel
    against the boxes.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        mask = isinstance(inpt, tv_tensors.Mask)
        mode = InterpolationMode.NEAREST_EXACT if mask else InterpolationMode.BILINEAR
        return self._call_kernel(F.resize, inpt, size=params["size"], interpolation=mode, antialias=True)


class RandomShortSide(_Resize):
    """The short side becomes one of ``sides`` pixels, or less where the long one would exceed ``longest``."""

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
    """Both sides by one factor between ``low`` and ``high``, whose logarithm is drawn evenly."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        factor = self.low * (self.high / self.low) ** float(torch.rand(()))
        return {"size": [max(round(height * factor), 1), max(round(width * factor), 1)]}


class _Crop(v2.Transform):
    """Cuts out ``params``: top, left, height and width; boxes are cut at the new border."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(F.crop, inpt, **params)


class RandomPiece(_Crop):
    """A piece with sides between ``low`` and ``high`` pixels, or as long as the image where that is less."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        sides = v2.query_size(flat_inputs)
        return _somewhere(sides, [_whole_number(min(self.low, side), min(self.high, side)) for side in sides])


def _somewhere(sides: Sequence[int], lengths: Sequence[int]) -> dict[str, int]:
    top, left = (_whole_number(0, side - length) for side, length in zip(sides, lengths, strict=True))
    return {"top": top, "left": left, "height": lengths[0], "width": lengths[1]}


def _whole_number(low: int, high: int) -> int:
    """Between both, which may be drawn as well."""
    return int(torch.randint(low, high + 1, ()))
