"""What both attentions of TransNeXt share: scaled cosine similarity and the continuous position bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops import aggregated_attention
from foveal.ops.aggregated_attention.api import reads_table
from foveal.ops.aggregated_attention.resize import resize_bias
from foveal.ops.numerics import without_autocast
from foveal.ops.standard import is_standard
from foveal.types import Size

from ..cache import SizeCache
from ..position_bias import continuous_position_bias, distinct_offsets, position_bias_table
from ..pyramid import trunc_normal_
from ..sizes import StageGeometry

_INITIAL_SCALE = 1 / 0.24  # softplus(temperature) at the start, section 3.1.3
_BIAS_HIDDEN = 512


class CosineAttention(nn.Module):
    """Base of both attentions: length-scaled cosine similarity, query embedding, and the continuous position bias.

    ``query_embedding=False`` leaves the embedding out, as steps 6 and 7 of the paper's roadmap do.
    """

    query_embedding: nn.Parameter | None

    def __init__(
        self, dim: int, heads: int, geometry: StageGeometry, attn_drop: float = 0.0, query_embedding: bool = True,
        device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.heads = heads
        self.geometry = geometry
        self.attn_drop = attn_drop
        self.temperature = nn.Parameter(torch.empty(heads, 1, 1, **dd))
        self.query_embedding = nn.Parameter(torch.empty(heads, 1, dim // heads, **dd)) if query_embedding else None
        self.cpb_fc1 = nn.Linear(2, _BIAS_HIDDEN, **dd)
        self.cpb_fc2 = nn.Linear(_BIAS_HIDDEN, heads, **dd)
        self._bias_cache = SizeCache()

    def reset_parameters(self) -> None:
        """Initialise the parameters that do not belong to a layer."""
        nn.init.constant_(self.temperature, math.log(math.expm1(_INITIAL_SCALE)))
        if self.query_embedding is not None:
            trunc_normal_(self.query_embedding, std=0.02)

    def train(self, mode: bool = True) -> CosineAttention:
        self._bias_cache.clear()
        return super().train(mode)

    def scale(self) -> Tensor:
        """Return the softplus of the temperature, (heads,), in float32 at least."""
        return F.softplus(self.temperature.flatten().to(torch.promote_types(self.temperature.dtype, torch.float32)))

    def embedding(self) -> Tensor | None:
        """Return the query embedding (heads, dim / heads), or None without one."""
        return None if self.query_embedding is None else self.query_embedding.flatten(1)

    def key_size(self, size: Size) -> Size:
        """Return (H, W) of the map that the keys come from, for queries on a map of ``size``."""
        raise NotImplementedError

    def position_bias(self, height: int, width: int) -> Tensor:
        """Return the bias (heads, H*W, keys), computed once per size and cached while the weights are not trained."""
        return self._kept("dense", (height, width), self._position_bias)

    def pool_bias(self, q: Tensor, window: int, dropout_p: float = 0.0) -> dict[str, Any]:
        """Return the position bias as arguments of ``aggregated_attention``, cached like the dense one.

        It is a table of offsets if the operator can read one, and the dense bias otherwise.
        """
        size = (q.shape[1], q.shape[2])
        if not self._reads_table(q, window, dropout_p):
            return dict(pool_bias=self.position_bias(*size))
        if not self.geometry.interpolate:
            return dict(pool_bias_table=self._kept("table", size, self._position_bias_table))
        reference = self.geometry.reference
        return dict(
            pool_bias_table=self._kept("table", reference, self._position_bias_table),
            table_sizes=(reference, self.key_size(reference)),
        )

    def _reads_table(self, q: Tensor, window: int, dropout_p: float) -> bool:
        return reads_table(q, self.cpb_fc1.weight, window, dropout_p, resized=self.geometry.interpolate)

    def _kept(self, form: str, size: Size, compute: Callable[[Size], Tensor]) -> Tensor:
        weights = (self.cpb_fc1.weight, self.cpb_fc1.bias, self.cpb_fc2.weight, self.cpb_fc2.bias)
        return self._bias_cache.get((form, size, self.geometry), weights, lambda: compute(size))

    def _position_bias_table(self, size: Size) -> Tensor:
        return position_bias_table(self.cpb_fc1, self.cpb_fc2, size, self.key_size(size), self.geometry.pretrain)

    def _position_bias(self, size: Size) -> Tensor:
        geometry, keys = self.geometry, self.key_size(size)
        if not geometry.interpolate:
            return continuous_position_bias(self.cpb_fc1, self.cpb_fc2, size, keys, geometry.pretrain)
        reference_keys = self.key_size(geometry.reference)
        bias = continuous_position_bias(
            self.cpb_fc1, self.cpb_fc2, geometry.reference, reference_keys, geometry.pretrain
        )
        return resize_bias(bias, geometry.reference, reference_keys, size, keys)

    def elementwise_macs(self, x: Tensor) -> tuple[str, int]:
        """Count the products of the position bias's first layer, which is computed as a sum of one term per axis."""
        size = (x.shape[1], x.shape[2])
        if self.geometry.interpolate:
            size = self.geometry.reference
        return "linear", distinct_offsets(size, self.key_size(size)) * self.cpb_fc1.weight.numel()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
        """Attention of every token to every token (equation 9): all (B, H, W, heads, dim), not normalised.

        Where nothing reads a table of offsets, PyTorch's attention takes the dense bias.
        """
        size, scale = (q.shape[1], q.shape[2]), self.scale()
        if self._reads_table(q, 0, dropout_p) or is_standard():
            return aggregated_attention(
                q,
                None,
                None,
                k,
                v,
                scale=scale,
                query_embedding=self.embedding(),
                **self.pool_bias(q, 0, dropout_p),
                window=0,
                length=self.geometry.full_length(size),
                dropout_p=dropout_p,
            )
        with without_autocast(q.device):
            unit_q, unit_k = (F.normalize(t.to(scale.dtype), dim=-1) for t in (q, k))
            embedding = self.embedding()
            unit_q = unit_q if embedding is None else unit_q + embedding.to(scale.dtype)
            scaled = unit_q * (scale[:, None] * _log(self.geometry.full_length(size), scale))
        q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (scaled.to(q.dtype), unit_k.to(k.dtype), v))
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=self.position_bias(*size).to(v.dtype).contiguous(),
            dropout_p=dropout_p,
            scale=1.0,
        )
        return y.transpose(1, 2).unflatten(1, size)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


def _log(n: int, like: Tensor) -> Tensor:
    """Return log(n) as a tensor with the device and dtype of ``like``; n may be symbolic."""
    return torch.full((), n, device=like.device, dtype=like.dtype).log()
