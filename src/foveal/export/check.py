"""Compare a file with the network that it came from, before it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.types import Size

from .program import BATCH, SIZE

# Largest difference of an output over the largest magnitude of that output in fp32. Half types round every layer's
# output; int8 is judged by the accuracy on images, not here.
BUDGETS = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def compare(net: nn.Module, run: Run, outputs: tuple[str, ...], images: Iterator[Tensor]) -> float:
    """Return the largest relative difference between a network in fp32 and a file over batches of images.

    Raises:
        FovealError: an output has another shape, or an output of the file or the network is not finite.
    """
    worst = 0.0
    for batch in images:
        with torch.no_grad():
            returned: Any = net(batch)
        expected = (returned,) if isinstance(returned, Tensor) else tuple(returned)
        found = run(batch.numpy())
        for name, tensor in zip(outputs, expected, strict=True):
            worst = max(worst, _difference(name, tensor.numpy(), found[name]))
    return worst


def _difference(name: str, expected: np.ndarray, found: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise FovealError(
            f"The file returns {name} of shape {found.shape}, the network {expected.shape}: it was not kept."
        )
    if not np.isfinite(expected).all():
        raise FovealError(f"The network itself returns {name} that are not finite: check its weights.")
    if not np.isfinite(found).all():
        raise FovealError(f"The file returns {name} that are not finite, the network does not: it was not kept.")
    largest = float(np.abs(expected).max(initial=0))
    return float(np.abs(found.astype(np.float64) - expected).max(initial=0)) / max(largest, 1e-12)


def images_for(batch: int, channels: int, size: Size, dynamic: frozenset[str], smallest: int) -> Iterator[Tensor]:
    """Yield batches to compare with: noise and a blank white image at the size, and if sizes are free, below and above
    it, one of them no multiple of anything; no side is below ``smallest``."""
    height, width = size
    sizes = [size]
    if SIZE in dynamic:
        small = (max(height * 5 // 8 + 3, smallest), max(width * 3 // 4 + 1, smallest))
        sizes += [small, (height + 32, max(width - 32, smallest)), (height * 3 // 2, width + 17)]
    generator = torch.Generator().manual_seed(1)
    for number, (rows, columns) in enumerate(sizes):
        count = batch if BATCH not in dynamic else (3, 1, 2, 1)[number]
        yield torch.randn(count, channels, rows, columns, generator=generator)
    yield torch.full((batch, channels, height, width), 2.5)
