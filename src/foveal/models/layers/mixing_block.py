"""MixFormer's token mixer, which the TransXNet paper compares with its own."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from ..pyramid import Linear, PointwiseConv
from .windows import WindowSoftmax, fill_windows


@register_notrace_module
class MixingBlock(nn.Module):
    """Attention in windows and a depthwise convolution side by side, each of which weights the other (table VI).

    Chen et al., "MixFormer: Mixing Features across Windows and Dimensions", CVPR 2022. The average of the convolved map
    weights the channels of the values (channel interaction); the attended map weights the positions of the convolved
    one (spatial interaction). Windows are not shifted, since the convolution connects them. As in their network, all
    layers run on whole windows; unlike there, the convolution sees zeros beyond the map, and the average leaves them
    out.

    Args:
        dim: channels, a multiple of 16. Attention has half of them.
        heads: number of heads.
        window: side of the windows in tokens.
        kernel: side of the convolution, odd.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
    """

    def __init__(
        self, dim: int, heads: int, window: int = 7, kernel: int = 3,
        attn_drop: float = 0.0, proj_drop: float = 0.0, **dd: Any,
    ):  # fmt: skip
        super().__init__()
        if dim % 16:
            raise ValueError(f"the mixing block needs channels in multiples of 16, got {dim}")
        half = dim // 2
        self.window = window
        self.enter_attention = nn.Sequential(Linear(dim, half, **dd), nn.LayerNorm(half, **dd))
        self.enter_conv = nn.Sequential(Linear(dim, dim, **dd), nn.LayerNorm(dim, **dd))
        depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, **dd)
        self.dwconv = nn.Sequential(depthwise, nn.BatchNorm2d(dim, **dd), nn.GELU())
        self.project_conv = PointwiseConv(dim, half, **dd)
        self.channel_interaction = _squeezed(dim, dim // 8, half, **dd)
        self.spatial_interaction = _squeezed(half, half // 8, 1, **dd)
        self.qkv = Linear(half, 3 * half, **dd)
        self.softmax = WindowSoftmax(heads, window, 0, attn_drop, **dd)
        self.attention_norm = nn.LayerNorm(half, **dd)
        self.conv_norm = nn.BatchNorm2d(half, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        size = height, width = x.shape[1], x.shape[2]
        x = fill_windows(x, self.window)
        conv = self.enter_conv(x)
        if conv.shape[1:3] != size:
            conv = fill_windows(conv[:, :height, :width], self.window)
        conv = self.dwconv(conv.permute(0, 3, 1, 2))
        average = conv[:, :, :height, :width].mean((2, 3), keepdim=True)
        conv = self.project_conv(conv)
        q, k, v = self.qkv(self.enter_attention(x)).chunk(3, -1)
        v = v * self.channel_interaction(average).sigmoid().permute(0, 2, 3, 1)
        attended = self.softmax(q, k, v, size)
        conv = conv * self.spatial_interaction(attended.permute(0, 3, 1, 2)).sigmoid()
        both = torch.cat([self.attention_norm(attended), self.conv_norm(conv).permute(0, 2, 3, 1)], -1)
        return self.proj_drop(self.proj(both)[:, :height, :width])


def _squeezed(dim: int, narrow: int, out: int, **dd: Any) -> nn.Sequential:
    """Return two 1x1 convolutions with BatchNorm and GELU between them."""
    first, last = PointwiseConv(dim, narrow, **dd), PointwiseConv(narrow, out, **dd)
    return nn.Sequential(first, nn.BatchNorm2d(narrow, **dd), nn.GELU(), last)
