"""Aggregated attention from PyTorch's operators, for runtimes of exported programs.

Maps are (B, heads, dim, pixels): a neighbour of every pixel is a shifted slice of a padded row of pixels, and a sum over
the dimension of a head adds whole rows. What a shift carries from one row of the map to the next lies outside the map
for that neighbour, and is masked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from ..numerics import EPS, accumulation_dtype, without_autocast
from .reference import window_mask
from .resize import dense_bias


def aggregated_attention_standard(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias,
    window, length, dropout_p, sizes,
):  # fmt: skip
    """See ``foveal.ops.aggregated_attention``; no argument is optional here."""
    size = (q.shape[1], q.shape[2])
    if sizes is not None:
        pool_bias = dense_bias(pool_bias, sizes, size, k_pool.shape[1:3])
    rows = (x.permute(0, 3, 4, 1, 2).flatten(3) for x in (q, k, v, k_pool, v_pool))
    y = rows_attention(
        *rows, scale, query_embedding, local_bias, pool_bias, tokens, token_bias,
        size=size, window=window, length=length,
    )  # fmt: skip
    return y.unflatten(3, size).permute(0, 3, 4, 1, 2)


def rows_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    k_pool: Tensor,
    v_pool: Tensor,
    scale: Tensor,
    query_embedding: Tensor | None = None,
    local_bias: Tensor | None = None,
    pool_bias: Tensor | None = None,
    tokens: Tensor | None = None,
    token_bias: Tensor | None = None,
    *,
    size: Size,
    window: int = 3,
    length: int | None = None,
) -> Tensor:
    """``foveal.ops.aggregated_attention`` of queries, keys and values (B, h, d, H * W) and pooled ones (B, h, d, P).

    Returns:
        (B, h, d, H * W) in the dtype of q.
    """
    dtype = accumulation_dtype(q.dtype)
    with without_autocast(q.device):
        valid = window_mask(*size, window, q.device).flatten(0, 1).mT  # (k * k, N)
        lengths = (valid.sum(0) + (k_pool.shape[3] if length is None else length)).to(dtype).log()
        unit_q = _unit(q.to(dtype))
        embedded = unit_q if query_embedding is None else unit_q + query_embedding.to(dtype)[..., None]
        scaled = embedded * (scale.to(dtype)[:, None, None] * lengths)
        pooled = torch.matmul(_unit(k_pool.to(dtype)).mT, scaled)
        if pool_bias is not None:
            pooled = pooled + pool_bias.to(dtype).mT
        if k is None or v is None or window == 0:
            return torch.matmul(v_pool.to(dtype), _softmax(pooled)).to(q.dtype)

        bias = scale.new_zeros(()) if local_bias is None else local_bias[..., None]
        keys = _neighbours(_unit(k.to(dtype)), size[1], window)
        local = torch.cat([(scaled * key).sum(2, keepdim=True) for key in keys], 2)
        local = local + torch.where(valid, bias.to(dtype), -torch.inf)
        shares = _softmax(torch.cat([local, pooled], 2))
        local, pooled = shares.split([window * window, pooled.shape[2]], 2)
        if tokens is not None or token_bias is not None:
            local = local + _positional(unit_q, tokens, token_bias) * valid.to(dtype)
        y = torch.matmul(v_pool.to(dtype), pooled)
        for share, value in zip(local.split(1, 2), _neighbours(v.to(dtype), size[1], window), strict=True):
            y = y + share * value
        return y.to(q.dtype)


def _positional(unit_q: Tensor, tokens: Tensor | None, bias: Tensor | None) -> Tensor:
    """(B, h, k * k, N): positional attention, added to the probabilities."""
    if tokens is None:
        return bias.to(unit_q.dtype)[..., None]
    product = torch.matmul(tokens.to(unit_q.dtype).mT, unit_q)
    return product if bias is None else product + bias.to(unit_q.dtype)[..., None]


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=2, keepdim=True).clamp_min(EPS)


def _softmax(x: Tensor) -> Tensor:
    """Softmax over dimension 2. ONNX Runtime turns a map around for a softmax over any but the last dimension."""
    powers = (x - x.amax(2, keepdim=True)).exp()
    return powers / powers.sum(2, keepdim=True)


def _neighbours(x: Tensor, width: int, window: int) -> list[Tensor]:
    """The k * k neighbours (B, h, d, N) of every pixel, window row by window row."""
    count, margin = x.shape[3], window // 2 * (width + 1)
    padded = F.pad(x, (margin, margin))
    return [padded.narrow(3, row * width + column, count) for row in range(window) for column in range(window)]
