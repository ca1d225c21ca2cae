"""The standard form of an operator: PyTorch's operators alone, for programs that leave PyTorch.

An exported program runs where foveal is not installed. Its operators are chosen for the runtimes that read it: maps are
channels first, where ONNX Runtime and OpenVINO are fastest, and no operator depends on the size of the example.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from .backend import Implementation, forced_backend

NAME = "standard"


def is_exporting() -> bool:
    """Whether a program is traced that leaves PyTorch, by torch.export or the ONNX exporters."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def is_standard() -> bool:
    """Whether operators take their standard form: in an exported program, or by ``use_backend("standard")``."""
    return is_exporting() if forced_backend() is None else forced_backend() == NAME


def standard(run: Callable[..., Tensor], unsupported: Callable[..., str | None] = lambda *call: None) -> Implementation:
    """Return the implementation "standard" of an operator, which is the first choice in an exported program."""

    def reason(*call: object) -> str | None:
        return unsupported(*call) if is_standard() else "only in an exported program"

    return Implementation(NAME, "PyTorch's operators alone, for exported programs", run, reason)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a linear layer with weights (C_out, C_in) of every pixel of a map (B, C_in, H, W), as a convolution."""
    return F.conv2d(x, weight[:, :, None, None], bias)


def average_pool(x: Tensor, size: Size) -> Tensor:
    """Return adaptive_avg_pool2d of a map (B, C, H, W) to ``size``.

    Exporters freeze adaptive pooling to the window of their example. So where windows differ, or sizes are symbolic,
    this is a product per axis with a matrix of shares.
    """
    axes = list(zip(x.shape[2:], size, strict=True))
    if all(_divides(pool, side) for side, pool in axes):
        windows = [side // pool for side, pool in axes]
        return x if windows == [1, 1] else F.avg_pool2d(x, windows)
    rows, columns = (_shares(side, pool, x) for side, pool in axes)
    return torch.matmul(rows, torch.matmul(x, columns.mT))


def _divides(pool: int, side: int) -> bool:
    return isinstance(pool, int) and isinstance(side, int) and side % pool == 0


def _shares(side: int, pool: int, like: Tensor) -> Tensor:
    """(pool, side): the share of every pixel of an axis in every cell of adaptive average pooling."""
    cell = torch.arange(pool, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    start, end = cell * side // pool, ((cell + 1) * side + pool - 1) // pool
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / (end - start)
