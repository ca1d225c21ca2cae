"""Dynamic depthwise convolution, which the TransXNet paper puts in the place of IDConv."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import dynamic_dwconv

from ..pyramid import PointwiseConv
from .depthwise import ConvNorm


@register_notrace_module
class DynamicDepthwiseConv(nn.Module):
    """Depthwise convolution whose kernels two layers predict from the average of the map (table VII, "D-DWConv").

    Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution", ICLR 2022, its
    homogeneous form. For C channels the two layers have 12.5 C^2 weights, as section III-B1 of the TransXNet paper
    says.

    Args:
        dim: channels.
        kernel: side of the kernels, odd.
        reduction: of the channels between the two layers.
    """

    def __init__(self, dim: int, kernel: int = 7, reduction: int = 4, **dd: Any):
        super().__init__()
        self.kernel = kernel
        narrow = dim // reduction
        squeeze = ConvNorm(PointwiseConv(dim, narrow, bias=False, **dd), act=True, **dd)
        self.proj = nn.Sequential(squeeze, PointwiseConv(narrow, dim * kernel * kernel, **dd))
        self.bias = nn.Parameter(torch.empty(dim, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the bias; the layers are convolutions."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weight = self.proj(x.mean((2, 3), keepdim=True)).view(*x.shape[:2], self.kernel, self.kernel)
        bias = self.bias.expand(x.shape[:2])
        return dynamic_dwconv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
