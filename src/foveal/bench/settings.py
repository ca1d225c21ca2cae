"""What all subjects of one interleaved run share: mode, dtype, images, device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from foveal.errors import FovealError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODES = ("inference", "training")
SMALLEST = 32  # pixels a side


@dataclass(frozen=True)
class Setting:
    """One cell of a benchmark: everything in it is timed in turn.

    Attributes:
        mode: "inference" is a forward pass without gradients; "training" forward, loss and backward, no optimiser.
        dtype: a key of DTYPES.
        batch: images a call.
        height, width: of the images, in pixels.
        device: as PyTorch names it.
        threads: of PyTorch's operators on the CPU.
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
        return DTYPES[self.dtype]

    @property
    def casting(self) -> str:
        """How a half type is reached: "cast" (the whole network) in inference, "autocast" in training; else "none"."""
        if self.dtype == "fp32":
            return "none"
        return "autocast" if self.training else "cast"

    @property
    def activation_dtype(self) -> torch.dtype:
        """Of images and weights: the half type where the network is cast to it."""
        return self.torch_dtype if self.casting == "cast" else torch.float32

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width

    def autocast(self) -> AbstractContextManager:
        """A block in which a network runs as this setting says."""
        return torch.autocast(torch.device(self.device).type, self.torch_dtype, enabled=self.casting == "autocast")

    def smallest(self) -> Setting:
        """The same with one image of 64 pixels, for questions that a size has no part in."""
        return replace(self, batch=1, height=64, width=64)

    def __str__(self) -> str:
        how = "" if self.casting == "none" else f" ({self.casting})"
        return f"{self.mode}, {self.dtype}{how}, batch {self.batch}, {self.height}x{self.width}"


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from "224" or "480x640". Raises FovealError for anything else."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise FovealError(f"--sizes takes a side as 224, or height and width as 480x640, not {text!r}.")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < SMALLEST:
        raise FovealError(f"--sizes starts at {SMALLEST} pixels a side, and {text} is less.")
    return height, width
