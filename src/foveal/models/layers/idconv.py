"""TransXNet's input-dependent depthwise convolution."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import dynamic_dwconv
from foveal.ops.standard import adaptive_pool

from ..pyramid import PointwiseConv, trunc_normal_
from .depthwise import ConvNorm

_DYNAMIC_KERNEL = 7


@register_notrace_module
class IDConv(nn.Module):
    """Input-dependent depthwise convolution, which mixes ``groups`` learned kernels per sample and channel.

    Section III-B1, equation 3. The bias is mixed by the same two layers from the global average, so in training their
    BatchNorm sees two batches per step.
    """

    pools_to_one = True  # the scores of its bias

    def __init__(self, dim: int, groups: int, kernel: int = _DYNAMIC_KERNEL, reduction: int = 4, **dd: Any):
        super().__init__()
        self.groups = groups
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(groups, dim, kernel, kernel, **dd))
        self.bias = nn.Parameter(torch.empty(groups, dim, **dd))
        narrow = dim // reduction
        squeeze, widen = PointwiseConv(dim, narrow, bias=False, **dd), PointwiseConv(narrow, dim * groups, **dd)
        self.proj = nn.Sequential(ConvNorm(squeeze, act=True, **dd), widen)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the kernels to be mixed."""
        trunc_normal_(self.weight, std=0.02)
        trunc_normal_(self.bias, std=0.02)

    def _mix(self, x: Tensor, size: int, learned: Tensor) -> Tensor:
        """Return the learned (groups, C, size, size), weighted by a softmax over groups of the pooled map.

        Returns:
            (B, C, size, size).
        """
        scores = self.proj(adaptive_pool(x, (size, size))).unflatten(1, (self.groups, -1))
        return (scores.softmax(1) * learned).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weight = self._mix(x, self.kernel, self.weight)
        bias = self._mix(x, 1, self.bias[..., None, None]).flatten(1)
        return dynamic_dwconv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
