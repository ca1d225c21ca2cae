"""Aggregated attention in plain PyTorch: the mathematics, in any dtype, differentiable any number of times.

    for every query i of every head:
        q_i  = (unit(q_i) + embedding) * scale * log(n_i)          n_i = window keys inside the map + pooled keys
        S_ij = q_i . unit(k_j) + local_bias[j]                     j over the k*k window, -inf outside the map
        S_ip = q_i . unit(kp_p) + pool_bias[i, p]                  p over the pooled map
        A    = softmax over window and pooled logits together
        y_i  = sum_j (A_ij + unit(q_i) . tokens[:, j] + token_bias[j]) v_j  +  sum_p A_ip vp_p

The window is gathered with ``unfold``, which writes k*k copies of k and v: this form is the yardstick for accuracy and
memory, not for speed. TransNeXt paper, equations 10-12.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import accumulation_dtype, without_autocast


def window_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """(H, W, k*k) bool: whether each window position lies inside the map, offsets row by row."""
    offsets = torch.arange(window, device=device) - window // 2
    rows = torch.arange(height, device=device)[:, None] + offsets
    columns = torch.arange(width, device=device)[:, None] + offsets
    rows_inside = (rows >= 0) & (rows < height)
    columns_inside = (columns >= 0) & (columns < width)
    return (rows_inside[:, None, :, None] & columns_inside[None, :, None, :]).reshape(height, width, window * window)


def log_length(mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(H, W, 1, 1): log of the number of keys of each query, ``length`` of them pooled."""
    return (mask.sum(-1) + length).to(dtype).log()[..., None, None]


def gather_window(x: Tensor, window: int) -> Tensor:
    """(B, H, W, h, d) -> (B, H, W, h, k*k, d): the window around every position, zeros outside the map."""
    b, height, width, heads, dim = x.shape
    if window == 0:
        return x.new_zeros(b, height, width, heads, 0, dim)
    columns = F.unfold(x.reshape(b, height, width, heads * dim).permute(0, 3, 1, 2), window, padding=window // 2)
    return columns.reshape(b, heads, dim, window * window, height, width).permute(0, 4, 5, 1, 3, 2)


def aggregated_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    scale: Tensor,
    query_embedding: Tensor,
    local_bias: Tensor,
    pool_bias: Tensor,
    tokens: Tensor,
    token_bias: Tensor,
    window: int,
    length: int,
    dropout_p: float = 0.0,
) -> Tensor:
    """See ``foveal.ops.aggregated_attention``; no argument is optional here."""
    _, height, width, heads, _ = q.shape
    dtype = accumulation_dtype(q.dtype)
    with without_autocast(q.device):
        k, v = (k, v) if window else (q, q)  # maps of the same shape, of which a window of 0 gathers nothing
        unit_q, unit_k, unit_kp = (F.normalize(t.to(dtype), dim=-1) for t in (q, k, k_pool.flatten(1, 2)))
        mask = window_mask(height, width, window, q.device)
        scaled = (unit_q + query_embedding.to(dtype)) * scale.to(dtype)[:, None] * log_length(mask, length, dtype)

        local = torch.einsum("byxhd,byxhjd->byxhj", scaled, gather_window(unit_k, window)) + local_bias.to(dtype)
        local = local.masked_fill(~mask[:, :, None], -torch.inf)
        pooled = torch.einsum("byxhd,bphd->byxhp", scaled, unit_kp)
        pooled = pooled + pool_bias.to(dtype).reshape(heads, height, width, -1).permute(1, 2, 0, 3)

        weights = F.dropout(torch.cat([local, pooled], -1).softmax(-1), dropout_p)
        local, pooled = weights.split([window * window, pooled.shape[-1]], -1)
        local = local + torch.einsum("byxhd,hdj->byxhj", unit_q, tokens.to(dtype)) + token_bias.to(dtype)
        out = torch.einsum("byxhj,byxhjd->byxhd", local, gather_window(v.to(dtype), window))
        out = out + torch.einsum("byxhp,bphd->byxhd", pooled, v_pool.flatten(1, 2).to(dtype))
    return out.to(q.dtype)
