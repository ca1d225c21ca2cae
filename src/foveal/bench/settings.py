"""The setting that all subjects of one interleaved run share: mode, dtype, images, device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from foveal.errors import FovealError
from foveal.types import Size

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INT8 = "int8"  # our networks as foveal.quantize returns them, and all others in fp32
MODES = ("inference", "training")
SMALLEST = 32  # pixels per side


@dataclass(frozen=True)
class Setting:
    """One cell of a benchmark, whose subjects are timed in one interleaved run.

    Attributes:
        mode: "inference" is a forward pass without gradients; "training" is forward, loss and backward.
        dtype: a key of ``DTYPES``, or ``INT8``.
        batch: images per call.
        height: height of the images in pixels.
        width: width of the images in pixels.
        device: PyTorch's name of the device.
        threads: threads of PyTorch's operators on the CPU.
    """

    mode: str = "inference"
    dtype: str = "fp32"
    batch: int = 8
    height: int = 224
    width: int = 224
    device: str = "cpu"
    threads: int = 1

    @property
    def training(self) -> bool:
        return self.mode == "training"

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.float32 if self.dtype == INT8 else DTYPES[self.dtype]

    @property
    def casting(self) -> str:
        """Use of half precision: "cast" (the whole network) in inference, "autocast" in training, else "none"."""
        if self.dtype in ("fp32", INT8):
            return "none"
        return "autocast" if self.training else "cast"

    @property
    def activation_dtype(self) -> torch.dtype:
        """Dtype of images and weights: the half type if the network is cast to it."""
        return self.torch_dtype if self.casting == "cast" else torch.float32

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.height * self.width

    def autocast(self) -> AbstractContextManager:
        """Return a context in which a network runs with this setting's dtype."""
        return torch.autocast(torch.device(self.device).type, self.torch_dtype, enabled=self.casting == "autocast")

    def smallest(self) -> Setting:
        """Return this setting with one image of 64 pixels, for questions that do not depend on the size."""
        return replace(self, batch=1, height=64, width=64)

    def __str__(self) -> str:
        how = "" if self.casting == "none" else f" ({self.casting})"
        return f"{self.mode}, {self.dtype}{how}, batch {self.batch}, {self.height}x{self.width}"


def parse_size(text: str) -> Size:
    """Parse (height, width) in pixels from "224" or "480x640"; raise FovealError for anything else."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise FovealError(f"--sizes takes a side such as 224, or height x width such as 480x640, not {text!r}.")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < SMALLEST:
        raise FovealError(f"--sizes must be at least {SMALLEST} pixels per side, not {text}.")
    return height, width
