"""Swin's attention, which the TransXNet paper compares with its own."""

from __future__ import annotations

from typing import Any

from timm.models import register_notrace_module
from torch import Tensor, nn

from ..pyramid import Linear
from .windows import WindowSoftmax, fill_windows


@register_notrace_module
class WindowAttention(nn.Module):
    """Self-attention in windows (table VI, "Swin"; table VII, "Window Attention").

    Liu et al., "Swin Transformer", ICCV 2021. Without shift and position bias it is the locally-grouped attention of
    Chu et al., "Twins", NeurIPS 2021. As in their networks, all layers run on whole windows.

    Args:
        dim: channels.
        heads: number of heads.
        window, shift, position_bias: see ``WindowSoftmax``.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
    """

    def __init__(
        self, dim: int, heads: int, window: int = 7, shift: int = 0,
        attn_drop: float = 0.0, proj_drop: float = 0.0, position_bias: bool = True, **dd: Any,
    ):  # fmt: skip
        super().__init__()
        self.window = window
        self.qkv = Linear(dim, 3 * dim, **dd)
        self.softmax = WindowSoftmax(heads, window, shift, attn_drop, position_bias, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        size = height, width = x.shape[1], x.shape[2]
        q, k, v = self.qkv(fill_windows(x, self.window)).chunk(3, -1)
        return self.proj_drop(self.proj(self.softmax(q, k, v, size))[:, :height, :width])
