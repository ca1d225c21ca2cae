"""TransNeXt's attentions: to a window and a pooled map, and of the last stage, to all tokens."""

from __future__ import annotations

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import aggregated_attention, gelu_pool
from foveal.types import Size

from ..pyramid import Linear, PointwiseConv, trunc_normal_
from ..sizes import StageGeometry
from .cosine_attention import CosineAttention


@register_notrace_module
class AggregatedAttention(CosineAttention):
    """Attention to the window and to the pooled map in one softmax, plus positional attention (equations 10-12)."""

    def __init__(
        self, dim: int, heads: int, window: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, device, dtype)
        dd = dict(device=device, dtype=dtype)
        head_dim, area = dim // heads, window * window
        self.window = window
        self.relative_pos_bias_local = nn.Parameter(torch.empty(heads, area, **dd))
        self.learnable_tokens = nn.Parameter(torch.empty(heads, head_dim, area, **dd))
        self.learnable_bias = nn.Parameter(torch.empty(heads, 1, area, **dd))
        self.q = Linear(dim, dim, **dd)
        self.kv = Linear(dim, 2 * dim, **dd)
        self.sr = PointwiseConv(dim, dim, **dd)
        self.norm = nn.LayerNorm(dim, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        trunc_normal_(self.relative_pos_bias_local, std=0.0004)
        trunc_normal_(self.learnable_tokens, std=0.02)
        nn.init.zeros_(self.learnable_bias)

    def key_size(self, size: Size) -> Size:
        return self.geometry.pooled(size)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, H, W, heads, dim) of tokens (B, H, W, C), not normalised."""
        return self._split_heads(self.q(x)), *self._keys_and_values(x)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, Hp, Wp, heads, dim) of the pooled map ("activate and pool", equation 5)."""
        size = self.geometry.pooled((x.shape[1], x.shape[2]))
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
            query_embedding=self.query_embedding.flatten(1),
            local_bias=self.relative_pos_bias_local,
            **self.pool_bias(q, self.window, dropout_p),
            tokens=self.learnable_tokens,
            token_bias=self.learnable_bias.flatten(1),
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
        attn_drop: float = 0.0, proj_drop: float = 0.0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, device, dtype)
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
