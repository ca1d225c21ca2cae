"""Dynamic convolution, which the TransXNet paper puts in the place of IDConv."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import dynamic_dwconv

from ..pyramid import PointwiseConv, trunc_normal_


@register_notrace_module
class DyConv(nn.Module):
    """Depthwise convolution with a weighted mean of learned kernels, the weights by a softmax per sample (table VII).

    Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020. The same weights mix the biases.
    The softmax has no temperature: theirs falls to 1 in the first epochs.

    Args:
        dim: channels.
        kernels: number of learned kernels.
        kernel: their side, odd.
        reduction: of the channels between the two layers that give the weights.
    """

    def __init__(self, dim: int, kernels: int, kernel: int = 7, reduction: int = 4, **dd: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernels, dim, kernel, kernel, **dd))
        self.bias = nn.Parameter(torch.empty(kernels, dim, **dd))
        narrow = dim // reduction
        self.attention = nn.Sequential(
            PointwiseConv(dim, narrow, bias=False, **dd), nn.ReLU(), PointwiseConv(narrow, kernels, **dd)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the kernels to be mixed."""
        trunc_normal_(self.weight, std=0.02)
        trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        share = self.attention(x.mean((2, 3), keepdim=True)).flatten(1).softmax(1)  # (B, kernels)
        weight = torch.einsum("bk,kcij->bcij", share, self.weight)
        return dynamic_dwconv(x.permute(0, 2, 3, 1), weight, share @ self.bias).permute(0, 3, 1, 2)
