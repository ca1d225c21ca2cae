"""What ``foveal.quantize`` did, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

#: Rounding a row of inputs to int8 costs as much time as a few dozen of its products save.
FEWEST_CHANNELS = 32
_NAME = 48  # characters of a layer's name in the table


class Kept(str, Enum):
    """The reasons why a product stays in floating point."""

    SMALL = "small"
    ERROR = "error"
    COSINE = "cosine"
    UNUSED = "unused"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LayerReport:
    """One product of the network.

    Attributes:
        name: of the layer in the network.
        inputs, outputs: channels of its input and output.
        macs: multiply-adds per calibration image.
        error: ||int8 - float|| / ||float - its mean over rows|| of its outputs on rows of the calibration images.
        kept: why it stays in floating point; None if it runs in int8.
    """

    name: str
    inputs: int
    outputs: int
    macs: float
    error: float
    kept: Kept | None


@dataclass(frozen=True)
class QuantizationReport:
    """All products of a quantized network, in the order of its modules. Prints as a table of 80 columns.

    Attributes:
        layers: one per product.
        dtype: of everything that is not int8.
        tolerance: the largest error that was allowed in int8.
        goal: the mean cosine that was to be reached in float32 around the products.
        images: number of calibration images.
        cosine: mean cosine between outputs in int8 and in float32 over the calibration images; None if the network
            returns something else than tensors.
    """

    layers: tuple[LayerReport, ...]
    dtype: torch.dtype
    tolerance: float
    goal: float
    images: int
    cosine: float | None

    @property
    def in_int8(self) -> int:
        """Number of layers in int8."""
        return sum(layer.kept is None for layer in self.layers)

    @property
    def share(self) -> float:
        """Share of the layers' multiply-adds that run in int8."""
        return sum(layer.macs for layer in self.layers if layer.kept is None) / sum(layer.macs for layer in self.layers)

    def summary(self) -> str:
        """Return the figures without the table, in one line."""
        products = f"int8: {self.in_int8} of {len(self.layers)} products ({self.share:.1%} of multiply-adds)"
        return products + ("" if self.cosine is None else f"; cosine {self.cosine:.5f} on {self.images} images")

    def __str__(self) -> str:
        lines = [self.summary(), _line("layer", "shape", "error", "runs in")]
        for layer in self.layers:
            where = "int8" if layer.kept is None else f"{self._float}: {layer.kept}"
            lines.append(_line(layer.name, f"{layer.inputs} > {layer.outputs}", f"{layer.error:.2%}", where))
        return "\n".join([*lines, *self._remarks()])

    def _remarks(self) -> list[str]:
        """Return what the reasons in the table mean, if they occur."""
        meanings = {
            Kept.ERROR: f"error: above {self.tolerance:.2%}",
            Kept.COSINE: f"cosine: changes the outputs most, whose cosine would be below {self.goal}",
            Kept.SMALL: f"small: fewer than {FEWEST_CHANNELS} inputs or outputs, too few to gain",
            Kept.UNUSED: "unused: did not run on the images",
        }
        found = {layer.kept for layer in self.layers}
        return [meaning for reason, meaning in meanings.items() if reason in found]

    @property
    def _float(self) -> str:
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"


def _line(name: str, shape: str, error: str, where: str) -> str:
    if len(name) > _NAME:  # shorten the middle: both ends are needed to identify a layer
        half = _NAME // 2 - 1
        name = f"{name[:half]}..{name[-half:]}"
    return f"{name:<{_NAME}} {shape:>11} {error:>6} {where}"
