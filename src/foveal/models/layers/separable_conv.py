"""Separable convolution, which the TransXNet paper compares with its token mixer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from ..pyramid import Linear
from .depthwise import DepthwiseConv


@register_notrace_module
class SeparableConv(nn.Module):
    """Depthwise convolution, BatchNorm, GELU, and a linear layer across channels (table VI, "Sep Conv").

    Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017. The table gives no size of the
    kernel; its multiply-adds are those of 7x7.

    Args:
        dim: channels.
        kernel: side of the convolution, odd.
        proj_drop: dropout of the output.
    """

    def __init__(self, dim: int, kernel: int = 7, proj_drop: float = 0.0, **dd: Any):
        super().__init__()
        self.dwconv = DepthwiseConv(dim, kernel, bias=False, **dd)
        self.norm = nn.BatchNorm2d(dim, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = F.gelu(self.norm(self.dwconv(x.permute(0, 3, 1, 2))))
        return self.proj_drop(self.proj(x.permute(0, 2, 3, 1)))
