"""ACmix, which the TransXNet paper compares with its token mixer."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from ..pyramid import Linear, PointwiseConv
from .windows import WindowSoftmax, fill_windows

_KERNEL = 3


class ShiftConv(nn.Conv2d):
    """Grouped 3x3 convolution that starts as a sum of shifted maps (section 4.2 of the ACmix paper).

    Each of its groups takes the nine maps of one channel of the heads, and returns that channel of every head.
    """

    def __init__(self, dim: int, heads: int, **dd: Any):
        head_dim = dim // heads
        super().__init__(_KERNEL**2 * head_dim, dim, _KERNEL, padding=_KERNEL // 2, groups=head_dim, **dd)

    def reset_parameters(self) -> None:
        """Initialise: shift map i of each group to offset i, and add the nine."""
        shifts = torch.eye(_KERNEL**2, device=self.weight.device, dtype=self.weight.dtype)
        with torch.no_grad():
            self.weight.copy_(shifts.unflatten(1, (_KERNEL, _KERNEL)).expand_as(self.weight))
            if self.bias is not None:
                self.bias.zero_()


@register_notrace_module
class ACmix(nn.Module):
    """Attention in windows and a convolution from the same queries, keys and values (table VI, "ACmix Block").

    Pan et al., "On the Integration of Self-Attention and Convolution", CVPR 2022, in its form for Swin. Queries, keys
    and values are 3 * heads maps with the channels of one head. A linear layer makes nine of them; shifted and added up
    they are a 3x3 convolution. Two learned numbers weight the two results. The windows may be shifted; the convolution
    stays on the map.

    Args:
        dim: channels.
        heads: number of heads.
        window, shift: see ``WindowSoftmax``.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
    """

    def __init__(
        self, dim: int, heads: int, window: int = 7, shift: int = 0,
        attn_drop: float = 0.0, proj_drop: float = 0.0, **dd: Any,
    ):  # fmt: skip
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = Linear(dim, 3 * dim, **dd)
        self.softmax = WindowSoftmax(heads, window, shift, attn_drop, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.fc = PointwiseConv(3 * heads, _KERNEL**2, **dd)
        self.dep_conv = ShiftConv(dim, heads, **dd)
        self.attention_rate = nn.Parameter(torch.empty((), **dd))
        self.conv_rate = nn.Parameter(torch.empty((), **dd))
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise to the mean of attention and convolution."""
        nn.init.constant_(self.attention_rate, 0.5)
        nn.init.constant_(self.conv_rate, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        size = height, width = x.shape[1], x.shape[2]
        qkv = fill_windows(self.qkv(x), self.window)
        attended = self.proj(self.softmax(*qkv.chunk(3, -1), size))
        y = attended * self.attention_rate + self._convolve(qkv, size) * self.conv_rate
        return self.proj_drop(y[:, :height, :width])

    def _convolve(self, qkv: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, H', W', 3 C) to (B, H', W', C), with zeros beyond the map of ``size``."""
        maps = qkv.unflatten(-1, (3 * self.heads, -1)).flatten(1, 2).transpose(1, 2)  # (B, 3 heads, H'W', head dim)
        nine = self.fc(maps).permute(0, 2, 3, 1).flatten(2).unflatten(1, qkv.shape[1:3])  # (B, H', W', head dim * 9)
        if qkv.shape[1:3] != size:
            nine = fill_windows(nine[:, : size[0], : size[1]], self.window)
        y: Tensor = self.dep_conv(nine.permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1)
