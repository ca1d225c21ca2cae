"""One attention layer of a TransNeXt, recomputed from its input tokens for a few queries at a time, as tensors.

The operators never form attention weights; this file does, for the queries asked for. Equations 9 to 12 of the paper
(Dai Shi, "TransNeXt: Robust Foveal Visual Perception for Vision Transformers") with the network's own projections, so
the weights are those of the fused operators within rounding. Normalisation and softmax are in float32 at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.models.layers.aggregated_attention import AggregatedAttention, SelfAttention
from foveal.models.layers.cosine_attention import CosineAttention
from foveal.models.layers.other_position_biases import OtherBiasAttention
from foveal.models.position_bias import position_bias_table
from foveal.ops.aggregated_attention.offsets import axis_positions
from foveal.ops.aggregated_attention.resize import linear_taps
from foveal.ops.numerics import EPS, accumulation_dtype, without_autocast
from foveal.types import Size


@dataclass(frozen=True)
class QueryWeights:
    """Attention of N queries. The softmax weights ``window`` and ``pooled`` sum to 1 for each query and head.

    Attributes:
        scaled: (N, heads, d), the queries as they meet the keys: (Q-hat + QE) * softplus(tau) * log(n).
        inside: (N, k*k) bool, whether a window position lies inside the map.
        window: (N, heads, k*k), softmax weights of the window, offsets row by row; 0 outside the map.
        pooled: (N, heads, Hp*Wp), softmax weights of the pooled keys.
        positional: (N, heads, k*k), Q-hat . T + b, which is added to ``window`` AFTER the softmax; 0 outside the map.
    """

    scaled: Tensor
    inside: Tensor
    window: Tensor
    pooled: Tensor
    positional: Tensor


class AttentionLayer:
    """Keys, queries and biases of one attention layer on one image.

    A ``SelfAttention`` has no window (k = 0), and its pooled map is the map itself.

    Attributes:
        size: (H, W) of the map.
        pool: (Hp, Wp) of the pooled map.
        window: k, the side of the window, or 0.
        heads: the number of heads.
        keys: (H, W, heads, d), unit fine keys K-hat.
        pooled_keys: (Hp, Wp, heads, d), unit pooled keys.
    """

    @torch.no_grad()
    def __init__(self, attention: CosineAttention, tokens: Tensor):
        """Project the (1, H, W, C) input tokens of ``attention``."""
        self.size: Size = (tokens.shape[1], tokens.shape[2])
        self.pool: Size = attention.key_size(self.size)
        self.heads = attention.heads
        self._attention = attention
        with without_autocast(tokens.device):
            q, k, k_pool = _projections(attention, tokens)
            self._queries, self.keys, self.pooled_keys = (_unit(t[0]) for t in (q, k, k_pool))
            self._dtype = self.keys.dtype
            self._set_window(attention)
            self._bias = _position_bias(attention, self.size, self._dtype)

    def _set_window(self, attention: CosineAttention) -> None:
        parameters: tuple[Tensor, ...]
        if isinstance(attention, AggregatedAttention):
            self.window = attention.window
            length = attention.geometry.pooled_length(self.size)
            self._length = self.pool[0] * self.pool[1] if length is None else length
            none = self.keys.new_zeros(self.heads, self.keys.shape[-1], self.window**2)
            tokens, token_bias = attention.learnable_tokens, attention.token_bias()
            positional = (none, none[:, 0]) if tokens is None or token_bias is None else (tokens, token_bias)
            bias = attention.window_bias()
            parameters = none[:, 0] if bias is None else bias, *positional
        else:
            self.window, self._length = 0, attention.geometry.full_length(self.size)
            none = self.keys.new_zeros(self.heads, self.keys.shape[-1], 0)
            parameters = none[:, 0], none, none[:, 0]
        self._local_bias, self._tokens, self._token_bias = (p.detach().to(self._dtype) for p in parameters)

    @torch.no_grad()
    def weights(self, rows: Tensor, columns: Tensor) -> QueryWeights:
        """Return the attention of the queries at ``rows`` and ``columns``, (N,) int64 each, in float32 at least."""
        rows, columns = rows.to(self.keys.device), columns.to(self.keys.device)
        with without_autocast(self.keys.device):
            keys, inside = self._gather_window(rows, columns)
            query = self._queries[rows, columns]
            scaled = self._scaled(query, inside)
            local = torch.einsum("nhd,njhd->nhj", scaled, keys) + self._local_bias
            local = local.masked_fill(~inside[:, None], -torch.inf)
            pooled = torch.einsum("nhd,phd->nhp", scaled, self.pooled_keys.flatten(0, 1)) + self._bias.of(rows, columns)
            weights = torch.cat([local, pooled], -1).softmax(-1)
            window, pooled = weights.split([self.window**2, pooled.shape[-1]], -1)
            positional = (torch.einsum("nhd,hdj->nhj", query, self._tokens) + self._token_bias) * inside[:, None]
        return QueryWeights(scaled, inside, window, pooled, positional)

    @torch.no_grad()
    def similarities(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products of one scaled query (heads, d) with all fine keys, (heads, H, W), and with all pooled
        keys, (heads, Hp, Wp)."""
        with without_autocast(scaled.device):
            fine, pooled = (torch.einsum("hd,rchd->hrc", scaled, keys) for keys in (self.keys, self.pooled_keys))
        return fine, pooled

    def _scaled(self, query: Tensor, inside: Tensor) -> Tensor:
        """(N, heads, d): step 4 of the operator for unit queries with these window keys."""
        attention = self._attention
        log_n = (inside.sum(-1) + self._length).to(self._dtype).log()
        embedding = attention.embedding()
        query = query if embedding is None else query + embedding.to(self._dtype)
        return query * attention.scale().to(self._dtype)[:, None] * log_n[:, None, None]

    def _gather_window(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys around N positions, (N, k*k, heads, d), and the mask of those inside the map, (N, k*k)."""
        offsets = torch.arange(self.window, device=rows.device) - self.window // 2
        row, column = torch.broadcast_tensors(
            rows[:, None, None] + offsets[:, None], columns[:, None, None] + offsets[None]
        )
        height, width = self.size
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        keys = self.keys[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        return keys.flatten(1, 2), inside.flatten(1)


def _position_bias(attention: CosineAttention, size: Size, dtype: torch.dtype) -> _PositionBias | _DenseBias:
    if not isinstance(attention, OtherBiasAttention):
        return _PositionBias(attention, size, dtype)
    if attention.window_bias_kind == "positional":
        raise FovealError(
            'window_bias="positional" leaves no positional attention beside the softmax to draw: use another network.'
        )
    return _DenseBias(attention, size, dtype)


class _DenseBias:
    """The position bias of chosen queries, from that of all: of the ablations' networks, which have no other form."""

    def __init__(self, attention: CosineAttention, size: Size, dtype: torch.dtype):
        self._bias = attention.position_bias(*size).to(dtype).unflatten(1, size)

    def of(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return (N, heads, Hp*Wp)."""
        return self._bias[:, rows, columns].transpose(0, 1)


class _PositionBias:
    """The continuous position bias of chosen queries, read from the table of offsets: the dense bias of all queries
    would take half a gigabyte in the first stage of a photograph of 1024 x 1024 pixels."""

    def __init__(self, attention: CosineAttention, size: Size, dtype: torch.dtype):
        geometry = attention.geometry
        home = geometry.reference if geometry.interpolate else size  # the map that the table belongs to
        self.pool, self._home_pool = attention.key_size(size), attention.key_size(home)
        table = position_bias_table(attention.cpb_fc1, attention.cpb_fc2, home, self._home_pool, geometry.pretrain)
        self._table = table.to(dtype)
        self._axes = [
            _axis(*sizes, table.device)
            for sizes in zip(size, home, self._home_pool, table.shape[1:], strict=True)
        ]  # fmt: skip

    def of(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return (N, heads, Hp*Wp)."""
        (row_pairs, row_shares), (column_pairs, column_shares) = (
            (pairs[at], shares[at].to(self._table.dtype))
            for (pairs, shares), at in zip(self._axes, (rows, columns), strict=True)
        )
        bias = self._table.new_zeros(len(self._table), len(rows), *self._home_pool)
        for a in range(row_pairs.shape[1]):
            for b in range(column_pairs.shape[1]):
                share = row_shares[:, a] * column_shares[:, b]
                bias += self._table[:, row_pairs[:, a, :, None], column_pairs[:, b, None]] * share[:, None, None]
        if self._home_pool != self.pool:
            bias = F.interpolate(bias, size=self.pool, mode="bilinear", align_corners=False)
        return bias.flatten(2).transpose(0, 1)


def _axis(size: int, home: int, pool: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return, along one axis, the table index of every position, tap and cell, (size, taps, pool), and the tap's share,
    (size, taps): one tap on the table's own map, and the two neighbours of linear interpolation on another."""
    pixel, cell = axis_positions(home, pool, count, device)
    if size == home:
        taps, shares = torch.arange(size, device=device)[:, None], torch.ones(size, 1, device=device)
    else:
        first, share = linear_taps(size, home, device)
        taps, shares = torch.stack([first, (first + 1).clamp(max=home - 1)], 1), torch.stack([1 - share, share], 1)
    return pixel[taps][..., None] + cell, shares


def _projections(attention: CosineAttention, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, fine keys and pooled keys, (1, rows, columns, heads, d), not normalised."""
    if isinstance(attention, AggregatedAttention):
        q, k, _ = attention.project(tokens)
        return q, k, attention.pool(tokens)[0]
    assert isinstance(attention, SelfAttention)
    q, k, _ = attention.qkv(tokens).unflatten(-1, (3, attention.heads, -1)).unbind(-3)
    return q, k, k


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.to(accumulation_dtype(x.dtype)), dim=-1, eps=EPS)
