"""Aggregated attention from PyTorch's operators, for runtimes of exported programs.

Maps are rows of pixels, (B, heads, dim, H * W): a neighbour of every pixel is a shifted slice of a padded row, and a
sum over the dimension of a head adds whole rows. What a shift carries from one line of the map to the next lies outside
the map for that neighbour, and is masked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from ..numerics import EPS, accumulation_dtype, in_dtype, without_autocast
from ..standard import keeps_whole
from .reference import window_mask
from .resize import dense_bias


class Terms(NamedTuple):
    """What attention takes beside queries, keys and values: functions of weights and of the sizes of the maps alone.

    Attributes:
        scale: (h, 1, N) or (h, 1, 1), of the queries, the logarithm of the number of keys included.
        embedding: (h, d, 1), the query embedding.
        pool_bias: (h, P, N).
        local_bias: (h, k * k, N), -inf outside the map.
        tokens, token_bias: (h, k * k, d) and (h, k * k, 1), positional attention.
        valid: (k * k, N), 1 for neighbours inside the map and 0 outside.
    """

    scale: Tensor
    embedding: Tensor | None = None
    pool_bias: Tensor | None = None
    local_bias: Tensor | None = None
    tokens: Tensor | None = None
    token_bias: Tensor | None = None
    valid: Tensor | None = None


def attention_terms(
    scale: Tensor,
    query_embedding: Tensor | None,
    local_bias: Tensor | None,
    pool_bias: Tensor | None,
    tokens: Tensor | None,
    token_bias: Tensor | None,
    *,
    size: Size,
    window: int,
    length: int,
) -> Terms:
    """Return the terms of a call of ``foveal.ops.aggregated_attention`` with these arguments on a map of ``size``.

    They have the dtype of ``scale``; ``length`` is the number of pooled keys.
    """
    dtype, device = scale.dtype, scale.device
    embedding = None if query_embedding is None else query_embedding.to(dtype)[..., None]
    pool_bias = None if pool_bias is None else pool_bias.to(dtype).mT
    if window == 0:
        logarithm = torch.full((), length, dtype=dtype, device=device).log()
        return Terms((scale * logarithm)[:, None, None], embedding, pool_bias)
    valid = window_mask(*size, window, device).flatten(0, 1).mT
    logarithm = (valid.sum(0) + length).to(dtype).log()
    bias = scale.new_zeros(()) if local_bias is None else local_bias.to(dtype)[..., None]
    return Terms(
        scale[:, None, None] * logarithm,
        embedding,
        pool_bias,
        torch.where(valid, bias, -torch.inf),
        None if tokens is None else tokens.to(dtype).mT,
        None if token_bias is None else token_bias.to(dtype)[..., None],
        valid.to(dtype),
    )


def aggregated_attention_standard(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias,
    window, length, dropout_p, sizes,
):  # fmt: skip
    """See ``foveal.ops.aggregated_attention``; no argument is optional here."""
    size = (q.shape[1], q.shape[2])
    with without_autocast(q.device):
        if sizes is not None:
            pool_bias = dense_bias(pool_bias, sizes, size, k_pool.shape[1:3])
        wide = scale.to(accumulation_dtype(q.dtype))
        terms = attention_terms(
            wide, query_embedding, local_bias, pool_bias, tokens, token_bias, size=size, window=window, length=length
        )
        maps = (q, k, v) if window else (q, None, None)
        rows = (None if x is None else x.permute(0, 3, 4, 1, 2).flatten(3) for x in (*maps, k_pool, v_pool))
        y = rows_attention(*rows, terms, size[1], window)
    return y.unflatten(3, size).permute(0, 3, 4, 1, 2)


def rows_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    k_pool: Tensor,
    v_pool: Tensor,
    terms: Terms,
    width: int,
    window: int,
) -> Tensor:
    """``foveal.ops.aggregated_attention`` of queries, keys and values (B, h, d, N), pooled ones (B, h, d, P) and terms.

    Args:
        width: of the map in pixels.
        window: k; with 0, k and v are None.

    Returns:
        (B, h, d, N) in the dtype of q; computed in that of the terms.
    """
    run = _WHOLE if keeps_whole() else _attend
    return run(q, k, v, k_pool, v_pool, *terms, width, window)


def _attend(
    q, k, v, k_pool, v_pool, scale, embedding, pool_bias, local_bias, tokens, token_bias, valid, width, window
):  # fmt: skip
    dtype = scale.dtype
    unit_q = _unit(in_dtype(q, dtype))
    scaled = (unit_q if embedding is None else unit_q + embedding) * scale
    pooled = torch.matmul(_unit(in_dtype(k_pool, dtype)).mT, scaled)
    pooled = pooled if pool_bias is None else pooled + pool_bias
    if window == 0:
        return in_dtype(torch.matmul(in_dtype(v_pool, dtype), softmax(pooled)), q.dtype)

    keys = _neighbours(_unit(in_dtype(k, dtype)), width, window)
    local = torch.cat([(scaled * key).sum(2, keepdim=True) for key in keys], 2) + local_bias
    shares = softmax(torch.cat([local, pooled], 2))
    local, pooled = shares.split([window * window, pooled.shape[2]], 2)
    if tokens is not None:
        product = torch.matmul(tokens, unit_q)
        local = local + (product if token_bias is None else product + token_bias) * valid
    elif token_bias is not None:
        local = local + token_bias * valid
    y = torch.matmul(in_dtype(v_pool, dtype), pooled)
    for share, value in zip(local.split(1, 2), _neighbours(in_dtype(v, dtype), width, window), strict=True):
        y = y + share * value
    return in_dtype(y, q.dtype)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=2, keepdim=True).clamp_min(EPS)


def softmax(x: Tensor) -> Tensor:
    """Softmax over dimension 2. ONNX Runtime transposes for a softmax over any dimension but the last."""
    powers = (x - x.amax(2, keepdim=True)).exp()
    return powers / powers.sum(2, keepdim=True)


def _neighbours(x: Tensor, width: int, window: int) -> list[Tensor]:
    """The k * k neighbours (B, h, d, N) of every pixel, window row by window row."""
    count, margin = x.shape[3], window // 2 * (width + 1)
    padded = F.pad(x, (margin, margin))
    return [padded.narrow(3, row * width + column, count) for row in range(window) for column in range(window)]


_WHOLE = torch.library.custom_op(
    "foveal::rows_attention",
    _attend,
    mutates_args=(),
    schema=(
        "(Tensor q, Tensor? k, Tensor? v, Tensor k_pool, Tensor v_pool, Tensor scale, Tensor? embedding, "
        "Tensor? pool_bias, Tensor? local_bias, Tensor? tokens, Tensor? token_bias, Tensor? valid, "
        "SymInt width, int window) -> Tensor"
    ),
)
_WHOLE.register_fake(lambda q, *rest: torch.empty_like(q, memory_format=torch.contiguous_format))
