"""Calibration: the range of every product's inputs on images, and the error that int8 then causes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops.int8 import quantize

from ..folded.parts import Layer
from .layer import affine, quantize_weight

#: Shares of the full range of inputs that are tried: clamping rare large inputs makes all others more precise.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
_ROWS = 512  # of a batch, on which a layer's error is measured
_BATCH = 32  # images of one batch, if they come as one tensor


@dataclass
class Calibration:
    """What was seen of one layer.

    Attributes:
        low, high: the smallest and largest input of the product, after the layer's norm.
        rows: number of inputs (rows of the product).
        sampled: number of rows on which errors were measured.
        sums: (C_out,) sum of the outputs on these rows; ``squares``: of their squares.
        errors: sum of the squared differences in int8, for each of ``SHARES``.
    """

    low: float = math.inf
    high: float = -math.inf
    rows: int = 0
    sampled: int = 0
    sums: Tensor | None = None
    squares: float = 0.0
    errors: list[float] = field(default_factory=lambda: [0.0] * len(SHARES))

    def see_range(self, x: Tensor) -> None:
        """Extend the range to inputs (..., C_in)."""
        low, high = x.aminmax()
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())
        self.rows += x.numel() // x.shape[-1]

    def see_errors(self, x: Tensor, layer: Layer, weight: Tensor) -> None:
        """Compare the layer's products with those in int8 on rows of inputs (..., C_in), for every share of the range.

        Args:
            weight: the layer's weight as rounded to int8, times its scales.
        """
        x = x.flatten(0, -2)
        x = x[:: math.ceil(len(x) / _ROWS)]
        exact = F.linear(x, layer.weight, layer.bias).double()
        self.sampled += len(x)
        self.sums = exact.sum(0) + (0.0 if self.sums is None else self.sums)
        self.squares += exact.square().sum().item()
        for i, share in enumerate(SHARES):
            scale, zero_point = affine(share * self.low, share * self.high)
            rounded = (quantize(x, scale, zero_point).float() - zero_point) * scale
            self.errors[i] += (F.linear(rounded, weight, layer.bias) - exact).square().sum().item()

    @property
    def range(self) -> tuple[float, float]:
        """The range with the smallest error."""
        share = SHARES[self.errors.index(min(self.errors))]
        return share * self.low, share * self.high

    @property
    def error(self) -> float:
        """The error in that range: ||int8 - float|| / ||float - its mean over rows|| of the layer's outputs.

        What is the same for every row, such as the bias, says nothing about the image.
        """
        if self.sums is None:
            return 0.0
        varying = self.squares - self.sums.square().sum().item() / self.sampled
        return math.sqrt(min(self.errors) / varying) if varying > 0 else math.inf


def batches_of(images: Tensor | Iterable[Any]) -> list[Tensor]:
    """Return the images as a list of batches (B, C, H, W), after checking each.

    Args:
        images: a batch, or an iterable of batches or of tuples that begin with one, as a DataLoader returns them.

    Raises:
        ValueError: there are no images, or they are not finite floating-point tensors of that shape.
    """
    given = images.split(_BATCH) if isinstance(images, Tensor) and images.ndim == 4 else images
    if isinstance(given, Tensor) or not isinstance(given, Iterable):
        raise ValueError(f"images must be a batch (B, C, H, W) or an iterable of batches, got {_describe(given)}")
    batches = [_check_batch(batch[0] if isinstance(batch, tuple | list) and batch else batch) for batch in given]
    if not any(map(len, batches)):
        raise ValueError("there are no images to calibrate on: pass at least one batch of them")
    return [batch for batch in batches if len(batch)]


def _check_batch(batch: Any) -> Tensor:
    if not isinstance(batch, Tensor) or batch.ndim != 4:
        raise ValueError(f"every batch of images must be a tensor (B, C, H, W), got {_describe(batch)}")
    if not batch.is_floating_point():
        raise ValueError(f"images must be floating-point, normalised as for the network, got {batch.dtype}")
    if not batch.isfinite().all():
        raise ValueError("the images to calibrate on hold NaN or infinity: leave these images out")
    return batch.detach().float()


def _describe(found: Any) -> str:
    return f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


@torch.no_grad()
def calibrate(net: nn.Module, layers: dict[str, Layer], batches: list[Tensor]) -> tuple[dict[str, Calibration], list]:
    """Run a folded network in float32 over the batches twice: for the ranges, then for the errors in them.

    Returns:
        What was seen of each of ``layers``, by name, and the network's outputs for every batch.
    """
    seen = {name: Calibration() for name in layers}
    with _watching(layers, lambda name, x: seen[name].see_range(x)):
        outputs = run(net, batches)
    if not all(math.isfinite(end) for one in seen.values() if one.rows for end in (one.low, one.high)):
        raise ValueError("the network's activations on these images are not finite: calibrate one that is trained")
    rounded = {name: dequantized(layer.weight) for name, layer in layers.items()}
    with _watching(layers, lambda name, x: seen[name].see_errors(x, layers[name], rounded[name])):
        run(net, batches)
    return seen, outputs


def run(net: nn.Module, batches: list[Tensor]) -> list:
    """Return the network's output for every batch."""
    return [net(batch) for batch in batches]


def dequantized(weight: Tensor) -> Tensor:
    """Return a weight (C_out, C_in) as rounded to int8, times its scales."""
    integers, scale = quantize_weight(weight)
    return integers * scale[:, None]


@contextmanager
def _watching(layers: dict[str, Layer], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside the block, call ``see`` with the name and the product's input of every layer that runs."""

    def hook(name: str) -> Callable[[Layer, tuple], None]:
        return lambda layer, args: see(name, layer.normalised(args[0]))

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def mean_cosine(found: list, expected: list) -> float | None:
    """Return the mean cosine between outputs, image by image and map by map; None for anything but tensors."""
    cosines = []
    for ours, theirs in zip(map(_maps, found), map(_maps, expected), strict=True):
        if ours is None or theirs is None:
            return None
        cosines += [F.cosine_similarity(a.float().flatten(1), b.flatten(1)) for a, b in zip(ours, theirs, strict=True)]
    return torch.cat(cosines).mean().item()


def _maps(output: Any) -> list[Tensor] | None:
    """Return a network's output as a list of tensors, or None."""
    maps = [output] if isinstance(output, Tensor) else output
    return list(maps) if isinstance(maps, list | tuple) and all(isinstance(m, Tensor) for m in maps) else None
