"""TransNeXt's blocks for inference.

One product gives queries, keys, values and the map to be pooled; residual additions are fused into the products before
them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from foveal.ops import aggregated_attention, gated_dwconv, gelu_pool
from foveal.ops.host import linear, linear_add
from foveal.types import Size

from ..transnext import AggregatedAttention, Block, ConvolutionalGLU, CosineAttention, SelfAttention
from .parts import InferenceOnly, cast, constant


class _FoldedAttention(InferenceOnly, CosineAttention):
    """A ``CosineAttention`` with the parameters of another.

    Parameters of the position bias and of the softmax stay in float32 at least, whatever the dtype of the products.
    """

    def __init__(self, source: CosineAttention, dtype: torch.dtype):
        dim = source.heads * source.query_embedding.shape[-1]
        super().__init__(dim, source.heads, source.geometry, attn_drop=0.0, device="meta")
        self.dtype = dtype
        self.temperature, self.query_embedding = source.temperature, source.query_embedding
        self.cpb_fc1, self.cpb_fc2 = source.cpb_fc1, source.cpb_fc2
        self.project_weight = cast(source.proj.weight, dtype)
        self.project_bias = cast(source.proj.bias, dtype)


class FoldedAggregatedAttention(_FoldedAttention):
    """Aggregated attention with its projections in one product."""

    def __init__(self, source: AggregatedAttention, dtype: torch.dtype):
        super().__init__(source, dtype)
        self.window = source.window
        layers: tuple[nn.Module, ...] = (source.q, source.kv, source.sr)
        self.weight = cast(torch.cat([layer.get_parameter("weight").flatten(1) for layer in layers]), dtype)
        self.bias = cast(torch.cat([layer.get_parameter("bias") for layer in layers]), dtype)
        self.norm = source.norm.to(dtype)
        self.softmax_scale = constant(source.scale())
        self.local_bias = constant(source.relative_pos_bias_local)
        self.tokens = constant(source.learnable_tokens)
        self.token_bias = constant(source.learnable_bias.flatten(1))

    def key_size(self, size: Size) -> Size:
        return self.geometry.pooled(size)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + attention of x; both (B, H, W, C)."""
        channels, size = x.shape[-1], (x.shape[1], x.shape[2])
        everything = linear(x, self.weight, self.bias)
        q, k, v = self._parts_by_head(everything[..., : 3 * channels], 3)
        pooled = self.norm(gelu_pool(everything[..., 3 * channels :], self.geometry.pooled(size)))
        keys_values = slice(channels, 3 * channels)
        pooled = linear(pooled, self.weight[keys_values], self.bias[keys_values])
        k_pool, v_pool = self._parts_by_head(pooled, 2)
        y = aggregated_attention(
            q,
            k,
            v,
            k_pool,
            v_pool,
            scale=self.softmax_scale,
            query_embedding=self.query_embedding.flatten(1),
            local_bias=self.local_bias,
            **self.pool_bias(q, self.window),
            tokens=self.tokens,
            token_bias=self.token_bias,
            window=self.window,
            length=self.geometry.pooled_length(size),
        )
        return linear_add(y.flatten(3), self.project_weight, self.project_bias, residual)

    def _parts_by_head(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (parts, self.heads, -1)).unbind(-3)


class FoldedSelfAttention(_FoldedAttention):
    """Attention between all tokens, with the residual addition."""

    def __init__(self, source: SelfAttention, dtype: torch.dtype):
        super().__init__(source, dtype)
        self.weight, self.bias = cast(source.qkv.weight, dtype), cast(source.qkv.bias, dtype)

    def key_size(self, size: Size) -> Size:
        return size

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + attention of x; both (B, H, W, C)."""
        q, k, v = linear(x, self.weight, self.bias).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        y = self.attend(q, k, v)
        return linear_add(y.flatten(3), self.project_weight, self.project_bias, residual)


class FoldedGLU(InferenceOnly):
    """Convolutional GLU with the residual addition."""

    def __init__(self, source: ConvolutionalGLU, dtype: torch.dtype):
        super().__init__()
        self.fc1, self.dwconv, self.fc2 = source.fc1.to(dtype), source.dwconv.to(dtype), source.fc2.to(dtype)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + GLU of x; both (B, H, W, C)."""
        y = gated_dwconv(self.fc1(x), None, self.dwconv.weight, self.dwconv.bias)
        return linear_add(y, self.fc2.weight, self.fc2.bias, residual)


class FoldedBlock(InferenceOnly):
    """A block of two folded residual branches."""

    def __init__(self, source: Block, dtype: torch.dtype):
        super().__init__()
        attention = FoldedAggregatedAttention if isinstance(source.attn, AggregatedAttention) else FoldedSelfAttention
        self.norm1, self.norm2 = source.norm1.to(dtype), source.norm2.to(dtype)
        self.attn = attention(source.attn, dtype)
        self.mlp = FoldedGLU(source.mlp, dtype)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = self.attn(self.norm1(x), x)
        return self.mlp(self.norm2(x), x)


FOLDS: dict[type[nn.Module], Callable[..., nn.Module]] = {Block: FoldedBlock}
