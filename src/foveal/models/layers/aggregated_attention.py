"""TransNeXt's attentions: to a window and a pooled map, and of the last stage, to all tokens."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import aggregated_attention, gelu_pool
from foveal.ops.standard import adaptive_pool
from foveal.types import Size

from ..pyramid import Linear, PointwiseConv, trunc_normal_
from ..sizes import StageGeometry
from .cosine_attention import CosineAttention

Pooling = Literal["activate", "average"]


@register_notrace_module
class AggregatedAttention(CosineAttention):
    """Attention to the window and to the pooled map in one softmax, plus positional attention (equations 10-12).

    Without query embedding and positional attention it is the paper's pixel-focused attention (equations 1 to 6).

    Args:
        dim: channels.
        heads: number of heads.
        window: side of the window in tokens, odd.
        geometry: of the stage.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
        query_embedding, positional_attention: whether these terms exist.
        pooling: "activate" applies GELU before the average and LayerNorm after it (equation 5); "average" averages
            first, then projects, normalises and applies GELU, as PVTv2's linear attention does.
    """

    relative_pos_bias_local: nn.Parameter | None
    learnable_tokens: nn.Parameter | None
    learnable_bias: nn.Parameter | None

    def __init__(
        self, dim: int, heads: int, window: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, query_embedding: bool = True,
        positional_attention: bool = True, pooling: Pooling = "activate", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, query_embedding, device, dtype)
        dd = dict(device=device, dtype=dtype)
        head_dim, area = dim // heads, window * window
        self.window = window
        self.relative_pos_bias_local = nn.Parameter(torch.empty(heads, area, **dd))
        shapes = (heads, head_dim, area), (heads, 1, area)
        positional = [nn.Parameter(torch.empty(s, **dd)) if positional_attention else None for s in shapes]
        self.learnable_tokens, self.learnable_bias = positional
        self.pooling = pooling
        self.q = Linear(dim, dim, **dd)
        self.kv = Linear(dim, 2 * dim, **dd)
        self.sr = PointwiseConv(dim, dim, **dd)
        self.norm = nn.LayerNorm(dim, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.relative_pos_bias_local is not None:
            trunc_normal_(self.relative_pos_bias_local, std=0.0004)
        if self.learnable_tokens is not None and self.learnable_bias is not None:
            trunc_normal_(self.learnable_tokens, std=0.02)
            nn.init.zeros_(self.learnable_bias)

    def key_size(self, size: Size) -> Size:
        return self.geometry.pooled(size)

    def window_bias(self) -> Tensor | None:
        """Return the position bias of the window's keys (heads, window * window), or None without one."""
        return self.relative_pos_bias_local

    def token_bias(self) -> Tensor | None:
        """Return the bias of positional attention (heads, window * window), or None without it."""
        return None if self.learnable_bias is None else self.learnable_bias.flatten(1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, H, W, heads, dim) of tokens (B, H, W, C), not normalised."""
        return self._split_heads(self.q(x)), *self._keys_and_values(x)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, Hp, Wp, heads, dim) of the pooled map."""
        size = self.geometry.pooled((x.shape[1], x.shape[2]))
        if self.pooling == "average":
            x = self.sr(adaptive_pool(x.permute(0, 3, 1, 2), size)).permute(0, 2, 3, 1)
            return self._keys_and_values(F.gelu(self.norm(x)))
        x = self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self._keys_and_values(self.norm(gelu_pool(x, size)))

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.kv(x).unflatten(-1, (2, self.heads, -1)).unbind(-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        dropout_p = self.attn_drop if self.training else 0.0
        q, k, v = self.project(x)
        y = aggregated_attention(
            q,
            k,
            v,
            *self.pool(x),
            scale=self.scale(),
            query_embedding=self.embedding(),
            local_bias=self.window_bias(),
            **self.pool_bias(q, self.window, dropout_p),
            tokens=self.learnable_tokens,
            token_bias=self.token_bias(),
            window=self.window,
            length=self.geometry.pooled_length((x.shape[1], x.shape[2])),
            dropout_p=dropout_p,
        )
        return self.proj_drop(self.proj(y.flatten(3)))


@register_notrace_module
class SelfAttention(CosineAttention):
    """Attention of every token to every token, with the same scaling and position bias (last stage, section 3.4)."""

    def __init__(
        self, dim: int, heads: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, query_embedding: bool = True, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, query_embedding, device, dtype)
        self.qkv = Linear(dim, 3 * dim, device=device, dtype=dtype)
        self.proj = Linear(dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def key_size(self, size: Size) -> Size:
        return size

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        y = self.attend(q, k, v, self.attn_drop if self.training else 0.0)
        return self.proj_drop(self.proj(y.flatten(3)))
