"""TransNeXt's blocks for inference.

One product gives queries, keys, values and the map to be pooled; a product takes the LayerNorm before it and the
residual addition after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops import aggregated_attention, convolutional_glu, gated_dwconv, gelu_pool
from foveal.ops.aggregated_attention.standard_form import Terms, attention_terms, rows_attention
from foveal.ops.modules import is_plain_module
from foveal.ops.standard import average_pool
from foveal.types import Size

from ..cache import SizeCache
from ..layers.aggregated_attention import AggregatedAttention, SelfAttention
from ..layers.convolutional_glu import ConvolutionalGLU
from ..layers.cosine_attention import CosineAttention
from ..transnext import Block
from .parts import InferenceOnly, Layer, constant, takes_maps


class _FoldedAttention(InferenceOnly, CosineAttention):
    """A ``CosineAttention`` with the parameters of another.

    Parameters of the position bias and of the softmax stay in float32 at least, whatever the dtype of the products.
    """

    def __init__(self, source: CosineAttention, dtype: torch.dtype):
        embeds = source.query_embedding is not None
        super().__init__(source.proj.out_features, source.heads, source.geometry, query_embedding=embeds, device="meta")
        self.temperature, self.query_embedding = source.temperature, source.query_embedding
        self.cpb_fc1, self.cpb_fc2 = source.cpb_fc1, source.cpb_fc2
        self.project = Layer.of(source.proj, dtype)

    def terms(self, size: Size) -> Terms:
        """Return what an exported program's attention takes beside queries, keys and values."""
        return Terms(*self.prepared("terms", lambda: self._terms(size), of_size=True))

    def _terms(self, size: Size) -> Terms:
        raise NotImplementedError

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, heads, dim, H * W)."""
        batch, channels, height, width = x.shape
        return x.reshape(batch, self.heads, channels // self.heads, height * width)

    def _projected(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, H, W, C) + the projection of y (B, heads, dim, H * W)."""
        batch, height, width, channels = x.shape
        maps = y.reshape(batch, channels, height, width)
        return x + self.project.map(maps).permute(0, 2, 3, 1)


class FoldedAggregatedAttention(_FoldedAttention):
    """Aggregated attention with its projections in one product."""

    def __init__(self, source: AggregatedAttention, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__(source, dtype)
        self.window = source.window
        layers = [Layer.of(layer, dtype) for layer in (source.q, source.kv, source.sr)]
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        self.everything = Layer(weight, bias, dtype, norm)
        channels = weight.shape[1]
        rows = slice(channels, 3 * channels)  # keys and values of the pooled map: the same memory
        self.pooled = Layer(self.everything.weight[rows], self.everything.bias[rows], dtype, source.norm)
        self.softmax_scale = constant(source.scale())
        self.local_bias = constant(source.window_bias())
        tokens, bias = source.learnable_tokens, source.token_bias()
        self.tokens = None if tokens is None else constant(tokens)
        self.token_bias = None if bias is None else constant(bias)

    def key_size(self, size: Size) -> Size:
        return self.geometry.pooled(size)

    def forward(self, x: Tensor) -> Tensor:
        """x + attention of the normalised x; (B, H, W, C)."""
        if takes_maps(self.everything, self.pooled, self.project):
            return self._standard(x)
        channels, size = x.shape[-1], (x.shape[1], x.shape[2])
        everything = self.everything(x)
        q, k, v = self._parts_by_head(everything[..., : 3 * channels], 3)
        pooled = gelu_pool(everything[..., 3 * channels :], self.geometry.pooled(size))
        k_pool, v_pool = self._parts_by_head(self.pooled(pooled), 2)
        y = aggregated_attention(
            q,
            k,
            v,
            k_pool,
            v_pool,
            scale=self.softmax_scale,
            query_embedding=self.embedding(),
            local_bias=self.local_bias,
            **self.pool_bias(q, self.window),
            tokens=self.tokens,
            token_bias=self.token_bias,
            window=self.window,
            length=self.geometry.pooled_length(size),
        )
        return self.project(y.flatten(3), add=x)

    def _parts_by_head(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (parts, self.heads, -1)).unbind(-3)

    def _standard(self, x: Tensor) -> Tensor:
        """``forward`` on channels-first maps, for exported programs."""
        channels, size = x.shape[-1], (x.shape[1], x.shape[2])
        *parts, reduced = self.everything.maps(_normal_map(self.everything, x), [channels] * 4)
        pooled = average_pool(F.gelu(reduced), self.geometry.pooled(size)).permute(0, 2, 3, 1)
        pooled_parts = self.pooled.maps(_normal_map(self.pooled, pooled), [channels] * 2)
        q, k, v, k_pool, v_pool = map(self._rows, (*parts, *pooled_parts))
        y = rows_attention(q, k, v, k_pool, v_pool, self.terms(size), size[1], self.window)
        return self._projected(x, y)

    def _terms(self, size: Size) -> Terms:
        height, width = self.geometry.pooled(size)
        return attention_terms(
            self.softmax_scale, self.embedding(), self.local_bias, self.position_bias(*size), self.tokens,
            self.token_bias, size=size, window=self.window, length=self.geometry.pooled_length(size) or height * width,
        )  # fmt: skip


class FoldedSelfAttention(_FoldedAttention):
    """Attention between all tokens, with the residual addition."""

    def __init__(self, source: SelfAttention, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__(source, dtype)
        self.qkv = Layer.of(source.qkv, dtype, norm)

    def key_size(self, size: Size) -> Size:
        return size

    def forward(self, x: Tensor) -> Tensor:
        """x + attention of the normalised x; (B, H, W, C)."""
        if takes_maps(self.qkv, self.project):
            return self._standard(x)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.project(self.attend(q, k, v).flatten(3), add=x)

    def _standard(self, x: Tensor) -> Tensor:
        """``forward`` on channels-first maps, for exported programs."""
        size = (x.shape[1], x.shape[2])
        q, k, v = map(self._rows, self.qkv.maps(_normal_map(self.qkv, x), [x.shape[-1]] * 3))
        return self._projected(x, rows_attention(q, None, None, k, v, self.terms(size), size[1], window=0))

    def _terms(self, size: Size) -> Terms:
        length, bias = self.geometry.full_length(size), self.position_bias(*size)
        return attention_terms(
            self.scale(), self.embedding(), None, bias, None, None, size=size, window=0, length=length
        )


class FoldedGLU(InferenceOnly):
    """Convolutional GLU with the LayerNorm before it and the residual addition after it."""

    def __init__(self, source: ConvolutionalGLU, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__()
        self.fc1, self.fc2 = Layer.of(source.fc1, dtype, norm), Layer.of(source.fc2, dtype)
        self.dwconv = source.dwconv.to(dtype)
        self._packed = SizeCache()

    def forward(self, x: Tensor) -> Tensor:
        """x + GLU of the normalised x; (B, H, W, C)."""
        if takes_maps(self.fc1, self.fc2):
            return self._standard(x)
        norm = self.fc1.norm
        if norm is None or not is_plain_module(nn.LayerNorm, norm) or not is_plain_module(Layer, self.fc1, self.fc2):
            hidden = gated_dwconv(self.fc1(x), None, self.dwconv.weight, self.dwconv.bias)
            return self.fc2(hidden, add=x)
        return convolutional_glu(
            x, norm.weight, norm.bias, self.fc1.weight, self.fc1.bias, self.dwconv.weight, self.dwconv.bias,
            self.fc2.weight, self.fc2.bias, eps=norm.eps, keep=self._packed.get,
        )  # fmt: skip

    def _standard(self, x: Tensor) -> Tensor:
        """``forward`` on channels-first maps, for exported programs: only the narrow maps before and after the mixer
        are turned around."""
        conv = self.dwconv
        gate, value = self.fc1.maps(_normal_map(self.fc1, x), [conv.out_channels] * 2)
        gate = F.gelu(F.conv2d(gate, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups))
        return x + self.fc2.map(gate * value).permute(0, 2, 3, 1)


class PlainBranch(InferenceOnly):
    """x + branch(norm(x)) by the layers as they are, for branches of ablations, which have no folded form."""

    def __init__(self, source: nn.Module, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__()
        self.norm, self.branch = norm.to(dtype), source.to(dtype).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        return x + self.branch(self.norm(x))


def _normal_map(layer: Layer, x: Tensor) -> Tensor:
    """Tokens (B, H, W, C) after the norm of a layer, as a map (B, C, H, W)."""
    return layer.normalised(x).permute(0, 3, 1, 2)


def _fold_attention(source: nn.Module, norm: nn.LayerNorm, dtype: torch.dtype) -> nn.Module:
    if type(source) is AggregatedAttention and source.pooling == "activate":
        return FoldedAggregatedAttention(source, norm, dtype)
    if isinstance(source, SelfAttention):
        return FoldedSelfAttention(source, norm, dtype)
    return PlainBranch(source, norm, dtype)


class FoldedBlock(InferenceOnly):
    """A block of two folded residual branches."""

    def __init__(self, source: Block, dtype: torch.dtype):
        super().__init__()
        self.attn = _fold_attention(source.attn, source.norm1, dtype)
        glu = FoldedGLU if isinstance(source.mlp, ConvolutionalGLU) else PlainBranch
        self.mlp = glu(source.mlp, source.norm2, dtype)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        return self.mlp(self.attn(x))


FOLDS: dict[type[nn.Module], Callable[..., nn.Module]] = {Block: FoldedBlock}
