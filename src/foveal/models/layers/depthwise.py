"""Convolutions of TransXNet."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import multiscale_dwconv


@register_notrace_module
class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution with padding kernel // 2, and optionally the addition of its input and GELU."""

    def __init__(
        self, dim: int, kernel: int, stride: int = 1, bias: bool = True,
        identity: bool = False, gelu: bool = False, **dd: Any,
    ):  # fmt: skip
        super().__init__(dim, dim, kernel, stride, kernel // 2, groups=dim, bias=bias, **dd)
        self.identity, self.gelu = identity, gelu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride), rounded up."""
        if self.stride != (1, 1):
            return super().forward(x)
        biases = None if self.bias is None else [self.bias]
        y = multiscale_dwconv(x.permute(0, 2, 3, 1), [self.weight], biases, identity=self.identity, gelu=self.gelu)
        return y.permute(0, 3, 1, 2)


class SeparateCells(nn.Conv2d):
    """Convolution of cells that do not overlap. Zeros fill the last row and column of cells."""

    def __init__(self, in_channels: int, out_channels: int, side: int, groups: int = 1, **dd: Any):
        super().__init__(in_channels, out_channels, side, side, groups=groups, bias=False, **dd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H / side, W / side), rounded up."""
        return super().forward(fill_cells(x, self.kernel_size[0]))


def fill_cells(x: Tensor, side: int) -> Tensor:
    """Add zeros below and to the right of a map (B, C, H, W), so that a convolution with this side and stride reaches
    all of it: at least up to whole cells. A fixed number, since an exported program has no fixed remainder."""
    return F.pad(x, (0, side - 1, 0, side - 1))


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, and optionally an activation."""

    def __init__(self, conv: nn.Conv2d, act: bool, **dd: Any):
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, **dd)
        self.act = nn.GELU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))
