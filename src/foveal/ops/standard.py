"""The standard form of an operator: PyTorch's operators alone, for programs that leave PyTorch.

An exported program runs where foveal is not installed. Its operators are chosen for the runtimes that read it: maps are
channels first, where ONNX Runtime and OpenVINO are fastest, and no operator depends on the size of the example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from .backend import Implementation, forced_backend

NAME = "standard"
_whole = False


def is_exporting() -> bool:
    """Whether a program is traced that leaves PyTorch, by torch.export or the ONNX exporters."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def is_standard() -> bool:
    """Whether operators take their standard form: in an exported program, or by ``use_backend("standard")``."""
    return is_exporting() if forced_backend() is None else forced_backend() == NAME


@contextmanager
def kept_whole() -> Iterator[None]:
    """Inside the block, trace attention as one operator, which an exporter then translates itself: its standard form
    has a hundred operators, and tracing takes milliseconds for each."""
    global _whole
    before, _whole = _whole, True
    try:
        yield
    finally:
        _whole = before


def keeps_whole() -> bool:
    """Whether ``kept_whole`` is in force."""
    return _whole


def standard(run: Callable[..., Tensor], unsupported: Callable[..., str | None] = lambda *call: None) -> Implementation:
    """Return the implementation "standard" of an operator, which is the first choice in an exported program."""

    def reason(*call: object) -> str | None:
        return unsupported(*call) if is_standard() else "only in an exported program"

    return Implementation(NAME, "PyTorch's operators alone, for exported programs", run, reason)


def average_pool(x: Tensor, size: Size) -> Tensor:
    """Return adaptive_avg_pool2d of a map (B, C, H, W) to ``size``.

    Exporters freeze adaptive pooling to the window of their example. So where windows differ, or sizes are symbolic,
    this is a product per axis with a matrix of shares.
    """
    if tuple(size) == (1, 1):
        return x.mean((2, 3), keepdim=True)
    axes = list(zip(x.shape[2:], size, strict=True))
    if all(_divides(pool, side) for side, pool in axes):
        windows = [side // pool for side, pool in axes]
        return x if windows == [1, 1] else F.avg_pool2d(x, windows)
    rows, columns = (_shares(side, pool, x) for side, pool in axes)
    # Linear layers of maps in order: products of other shapes compare symbolic sizes, which binds a program to some.
    by_column = F.linear(x.clone(memory_format=torch.contiguous_format), columns)
    return F.linear(by_column.mT.clone(memory_format=torch.contiguous_format), rows).mT


def adaptive_pool(x: Tensor, size: Size) -> Tensor:
    """Return adaptive_avg_pool2d of a map (B, C, H, W) to ``size``, by ``average_pool`` in an exported program."""
    return average_pool(x, size) if is_standard() else F.adaptive_avg_pool2d(x, size)


def _divides(pool: int, side: int) -> bool:
    return isinstance(pool, int) and isinstance(side, int) and side % pool == 0


def _shares(side: int, pool: int, like: Tensor) -> Tensor:
    """(pool, side): the share of every pixel of an axis in every cell of adaptive average pooling."""
    cell = torch.arange(pool, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    start, end = cell * side // pool, ((cell + 1) * side + pool - 1) // pool
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / (end - start)
