"""Aggregated attention with the position biases of the TransNeXt paper's table 6 (appendix D.3)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.ops.aggregated_attention.reference import gather_window, log_length, window_mask
from foveal.ops.numerics import accumulation_dtype, without_autocast
from foveal.types import Size

from ..position_bias import window_position_bias
from ..pyramid import trunc_normal_
from ..sizes import StageGeometry
from .aggregated_attention import AggregatedAttention

WindowBias = Literal["learned", "log_cpb", "positional", "none"]
PooledBias = Literal["log_cpb", "learned", "none"]


@register_notrace_module
class OtherBiasAttention(AggregatedAttention):
    """Aggregated attention whose position biases are computed otherwise, or are missing.

    Args:
        window_bias: of the keys in the window: "learned" per offset, as in the network; "log_cpb", by the network that
            gives the pooled keys' bias; "positional", where positional attention is the bias, within the softmax
            instead of after it; or "none".
        pooled_bias: of the pooled keys: "log_cpb", as in the network; "learned" per offset between pooled cells, which
            cannot be extrapolated and is resized bilinearly for other image sizes; or "none".

    Further arguments are those of ``AggregatedAttention``.
    """

    def __init__(
        self, dim: int, heads: int, window: int, geometry: StageGeometry, *,
        window_bias: WindowBias = "learned", pooled_bias: PooledBias = "log_cpb", **settings: Any,
    ):  # fmt: skip
        super().__init__(dim, heads, window, geometry, **settings)
        self.window_bias_kind, self.pooled_bias_kind = window_bias, pooled_bias
        if window_bias != "learned":
            self.relative_pos_bias_local = None
        if "log_cpb" not in (window_bias, pooled_bias):
            del self.cpb_fc1, self.cpb_fc2
        self.relative_pos_bias_pool: nn.Parameter | None = None
        if pooled_bias == "learned":
            rows, columns = (2 * side - 1 for side in self.key_size(geometry.reference))
            self.relative_pos_bias_pool = nn.Parameter(self.q.weight.new_empty(heads, rows, columns))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        pool = getattr(self, "relative_pos_bias_pool", None)  # the base calls this before there is one
        if pool is not None:
            trunc_normal_(pool, std=0.0004)

    def resize_table(self) -> None:
        """Resize a learned bias of the pooled keys to the map of this stage's geometry."""
        table = self.relative_pos_bias_pool
        if table is not None:
            with torch.no_grad():
                resized = resize_offsets(table, self.key_size(self.geometry.reference))
            self.relative_pos_bias_pool = nn.Parameter(resized, requires_grad=table.requires_grad)

    def window_bias(self) -> Tensor | None:
        if self.window_bias_kind == "log_cpb":
            return window_position_bias(self.cpb_fc1, self.cpb_fc2, self.window, self.geometry.pretrain)
        return super().window_bias()

    def position_bias(self, height: int, width: int) -> Tensor:
        if self.pooled_bias_kind == "log_cpb":
            return super().position_bias(height, width)
        size = (height, width)
        if self.relative_pos_bias_pool is None:
            pool = self.key_size(size)
            return self.q.weight.new_zeros(self.heads, height * width, pool[0] * pool[1])
        return _between_cells(self.relative_pos_bias_pool, size, self.key_size(size))

    def pool_bias(self, q: Tensor, window: int, dropout_p: float = 0.0) -> dict[str, Any]:
        if self.pooled_bias_kind == "log_cpb":
            return super().pool_bias(q, window, dropout_p)
        none = self.pooled_bias_kind == "none"
        return dict(pool_bias=None if none else self.position_bias(q.shape[1], q.shape[2]))

    def elementwise_macs(self, x: Tensor) -> tuple[str, int]:
        kind, macs = "linear", 0
        if self.pooled_bias_kind == "log_cpb":
            kind, macs = super().elementwise_macs(x)
        if self.window_bias_kind == "log_cpb":
            macs += self.window**2 * self.cpb_fc1.weight.numel()
        return kind, macs

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        return self._with_dynamic_bias(x) if self.window_bias_kind == "positional" else super().forward(x)

    def _with_dynamic_bias(self, x: Tensor) -> Tensor:
        """Attention whose window bias depends on the query, in plain PyTorch: no kernel has such a bias."""
        assert self.learnable_tokens is not None
        size = (x.shape[1], x.shape[2])
        q, k, v = self.project(x)
        k_pool, v_pool = (t.flatten(1, 2) for t in self.pool(x))
        dtype = accumulation_dtype(q.dtype)
        length = self.geometry.pooled_length(size)
        with without_autocast(q.device):
            unit, k, k_pool = (F.normalize(t.to(dtype), dim=-1) for t in (q, k, k_pool))
            mask = window_mask(*size, self.window, q.device)
            embedding = self.embedding()
            scaled = unit if embedding is None else unit + embedding.to(dtype)
            scaled = scaled * self.scale().to(dtype)[:, None]
            scaled = scaled * log_length(mask, k_pool.shape[1] if length is None else length, dtype)
            dynamic = torch.einsum("byxhd,hdj->byxhj", unit, self.learnable_tokens.to(dtype)) + self.token_bias()
            window = torch.einsum("byxhd,byxhjd->byxhj", scaled, gather_window(k, self.window)) + dynamic
            pooled = torch.einsum("byxhd,bphd->byxhp", scaled, k_pool)
            pooled = pooled + self.position_bias(*size).to(dtype).unflatten(1, size).permute(1, 2, 0, 3)
            logits = torch.cat([window.masked_fill(~mask[:, :, None], -torch.inf), pooled], -1)
            weights = F.dropout(logits.softmax(-1), self.attn_drop, self.training)
            window, pooled = weights.split([self.window**2, pooled.shape[-1]], -1)
            y = torch.einsum("byxhj,byxhjd->byxhd", window, gather_window(v.to(dtype), self.window))
            y = y + torch.einsum("byxhp,bphd->byxhd", pooled, v_pool.to(dtype))
        return self.proj_drop(self.proj(y.to(v.dtype).flatten(3)))


def _between_cells(table: Tensor, size: Size, pool: Size) -> Tensor:
    """Expand a table (heads, 2 Hp - 1, 2 Wp - 1) of offsets between pooled cells to (heads, H*W, Hp*Wp).

    A query has the offset of the cell that it lies in. A table of another pooled map is resized bilinearly.
    """
    table = resize_offsets(table, pool)
    rows, columns = (_cell_offsets(*axis, table.device) for axis in zip(size, pool, strict=True))
    bias = table[:, rows[:, None, :, None], columns[None, :, None, :]]
    return bias.flatten(3).flatten(1, 2)


def resize_offsets(table: Tensor, pool: Size) -> Tensor:
    """Resize a table (heads, rows, columns) of offsets bilinearly to a pooled map of size ``pool``."""
    wanted = (2 * pool[0] - 1, 2 * pool[1] - 1)
    if all(statically_known_true(ours == asked) for ours, asked in zip(table.shape[1:], wanted, strict=True)):
        return table
    return F.interpolate(table[None], size=wanted, mode="bilinear", align_corners=False)[0]


def _cell_offsets(size: int, cells: int, device: torch.device) -> Tensor:
    """Return the table index of every pixel of an axis and every cell, (size, cells)."""
    home = torch.arange(size, device=device) * cells // size
    return home[:, None] - torch.arange(cells, device=device) + cells - 1
