"""Backward kernels of aggregated attention for pooled keys: sums over all queries, and the gradient of the position
bias, a sum over the batch.

The two sums run along different axes, so each has a kernel that keeps its result in registers:
``pool_gradients_kernel`` walks along the queries of one sample, ``bias_gradients_kernel`` along the samples. Tiles are
(pooled keys, queries).
"""

from __future__ import annotations

from ...triton import jit, tl
from .position_bias import load_pool_bias
from .tiles import (
    LN2,
    LOG2E,
    SIZES,
    inverse_norm,
    load_run,
    log2_keys,
    map_start,
    matmul,
    place,
    two_parts,
)


@jit
def load_query(
    q_start, g_start, lse_start, delta_start, first, height, width, heads, length, q_stride, g_stride, scale, embedding,
    WINDOW: tl.constexpr, QUERY_BLOCK: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Scaled queries and output gradients (QUERY_BLOCK, DIM_PAD), their log-sum-exp to base 2 and delta, of the pixels
    from number ``first`` on. Past the end of the map the log-sum-exp is infinite: probability 0."""
    number = first + tl.arange(0, QUERY_BLOCK)
    inside = number < height * width
    q = load_run(q_start, first, inside, q_stride, QUERY_BLOCK, DIM, DIM_PAD)
    grad = load_run(g_start, first, inside, g_stride, QUERY_BLOCK, DIM, DIM_PAD).to(q.dtype)
    lse = LOG2E * tl.load(lse_start + number.to(tl.int64) * heads, mask=inside, other=float("inf"))
    delta = tl.load(delta_start + number.to(tl.int64) * heads, mask=inside, other=0.0)
    factor = scale * log2_keys(number // width, number % width, height, width, length, WINDOW)
    unit = q.to(tl.float32) * inverse_norm(q)[:, None]
    return (unit + embedding[None, :]) * factor[:, None], grad, lse, delta


@jit
def probabilities(scaled, grad, lse, delta, keys, values, bias):
    """Probabilities and the gradient of the logits, (pooled keys, queries)."""
    if keys.dtype == tl.float32:
        product = matmul(keys, tl.trans(scaled))
    else:  # as in ``similarities``
        high, low = two_parts(scaled, keys.dtype)
        product = matmul(keys, tl.trans(high)) + matmul(keys, tl.trans(low))
    weights = tl.exp2(product * inverse_norm(keys)[:, None] + bias - lse[None, :])
    return weights, weights * (matmul(values, tl.trans(grad)) - delta[None, :])


@jit(do_not_specialize=SIZES)
def pool_gradients_kernel(
    g_ptr, q_ptr, kp_ptr, vp_ptr, scale_ptr, embedding_ptr, pool_bias_ptr, bias_keys_ptr, bias_shares_ptr, lse_ptr,
    delta_ptr, grad_k_ptr, grad_v_ptr,
    g_batch, g_pixel, g_head, q_batch, q_pixel, q_head, kp_batch, kp_pixel, kp_head, vp_batch, vp_pixel, vp_head,
    bias_head, bias_row, bias_query, bias_key, bias_width, bias_reference,
    batches, heads, height, width, pooled, length, strips, blocks, share,
    ALIGN: tl.constexpr, BIAS_FORM: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr, WINDOW: tl.constexpr,
    POOL_BLOCK: tl.constexpr, QUERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """Write shares (blocks, B, P, h, d) of the gradients of normalised pooled keys and of pooled values. A program
    computes one of ``strips`` blocks of pooled keys, for one of ``blocks`` ranges of ``share`` queries."""
    batch, head, strip, block = place(heads, strips, blocks)
    g_start = map_start(g_ptr, batch, head, g_batch * ALIGN, g_head * ALIGN)
    q_start = map_start(q_ptr, batch, head, q_batch * ALIGN, q_head * ALIGN)
    kp_start = map_start(kp_ptr, batch, head, kp_batch * ALIGN, kp_head * ALIGN)
    vp_start = map_start(vp_ptr, batch, head, vp_batch * ALIGN, vp_head * ALIGN)
    bias_start = pool_bias_ptr + head.to(tl.int64) * bias_head
    bias = (
        bias_start, bias_keys_ptr, bias_shares_ptr, bias_row, bias_query, bias_key, bias_width, bias_reference,
    )  # fmt: skip
    lse_start = map_start(lse_ptr, batch, head, height * width * heads, 1)
    delta_start = map_start(delta_ptr, batch, head, height * width * heads, 1)

    channel = tl.arange(0, DIM_PAD)
    scale = tl.load(scale_ptr + head).to(tl.float32)
    embedding = tl.load(embedding_ptr + head * DIM + channel, mask=channel < DIM, other=0.0).to(tl.float32)
    first_key = strip * POOL_BLOCK
    key = first_key + tl.arange(0, POOL_BLOCK)
    keys = load_run(kp_start, first_key, key < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
    values = load_run(vp_start, first_key, key < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
    grad_k = tl.zeros((POOL_BLOCK, DIM_PAD), tl.float32)
    grad_v = tl.zeros((POOL_BLOCK, DIM_PAD), tl.float32)

    for first in range(block * share, tl.minimum(block * share + share, height * width), QUERY_BLOCK):
        scaled, grad, lse, delta = load_query(
            q_start, g_start, lse_start, delta_start, first, height, width, heads, length, q_pixel * ALIGN,
            g_pixel * ALIGN, scale, embedding, WINDOW, QUERY_BLOCK, DIM, DIM_PAD,
        )  # fmt: skip
        query = first + tl.arange(0, QUERY_BLOCK)
        loaded = load_pool_bias(bias, query, key, height * width, pooled, BIAS_FORM)
        weights, logit_grad = probabilities(scaled, grad, lse, delta, keys, values, loaded)
        grad_k += matmul(logit_grad.to(keys.dtype), scaled.to(keys.dtype))
        grad_v += matmul(weights.to(keys.dtype), grad)

    share_of = (block.to(tl.int64) * batches + batch) * pooled * heads + head
    place_of = share_of * DIM + key[:, None].to(tl.int64) * (heads * DIM) + channel[None, :]
    inside = (key < pooled)[:, None] & (channel < DIM)[None, :]
    tl.store(grad_k_ptr + place_of, grad_k * LN2, mask=inside)
    tl.store(grad_v_ptr + place_of, grad_v, mask=inside)


@jit(do_not_specialize=SIZES)
def bias_gradients_kernel(
    g_ptr, q_ptr, kp_ptr, vp_ptr, scale_ptr, embedding_ptr, pool_bias_ptr, bias_keys_ptr, bias_shares_ptr, lse_ptr,
    delta_ptr, grad_bias_ptr,
    g_batch, g_pixel, g_head, q_batch, q_pixel, q_head, kp_batch, kp_pixel, kp_head, vp_batch, vp_pixel, vp_head,
    bias_head, bias_row, bias_query, bias_key, bias_width, bias_reference,
    batches, heads, height, width, pooled, length, strips, blocks, share,
    first_query, last_query,
    ALIGN: tl.constexpr, BIAS_FORM: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr, WINDOW: tl.constexpr,
    POOL_BLOCK: tl.constexpr, QUERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """Write shares (n, h, P, M) of the gradient of the dense position bias, each the sum of ``share`` samples, for M
    queries: from ``first_query`` to before ``last_query``. A program computes one of ``strips`` blocks of pooled keys
    and one of ``blocks`` blocks of queries."""
    part, head, strip, block = place(heads, strips, blocks)
    bias_start = pool_bias_ptr + head.to(tl.int64) * bias_head
    bias = (
        bias_start, bias_keys_ptr, bias_shares_ptr, bias_row, bias_query, bias_key, bias_width, bias_reference,
    )  # fmt: skip
    channel = tl.arange(0, DIM_PAD)
    scale = tl.load(scale_ptr + head).to(tl.float32)
    embedding = tl.load(embedding_ptr + head * DIM + channel, mask=channel < DIM, other=0.0).to(tl.float32)
    first_key, first = strip * POOL_BLOCK, first_query + block * QUERY_BLOCK
    key = first_key + tl.arange(0, POOL_BLOCK)
    query = first + tl.arange(0, QUERY_BLOCK)
    loaded = load_pool_bias(bias, query, key, height * width, pooled, BIAS_FORM)
    total = tl.zeros((POOL_BLOCK, QUERY_BLOCK), tl.float32)

    for sample in range(part * share, tl.minimum(part * share + share, batches)):
        batch = tl.cast(sample, tl.int64)
        scaled, grad, lse, delta = load_query(
            map_start(q_ptr, batch, head, q_batch * ALIGN, q_head * ALIGN),
            map_start(g_ptr, batch, head, g_batch * ALIGN, g_head * ALIGN),
            map_start(lse_ptr, batch, head, height * width * heads, 1),
            map_start(delta_ptr, batch, head, height * width * heads, 1),
            first, height, width, heads, length, q_pixel * ALIGN, g_pixel * ALIGN, scale, embedding,
            WINDOW, QUERY_BLOCK, DIM, DIM_PAD,
        )  # fmt: skip
        kp_start = map_start(kp_ptr, batch, head, kp_batch * ALIGN, kp_head * ALIGN)
        vp_start = map_start(vp_ptr, batch, head, vp_batch * ALIGN, vp_head * ALIGN)
        keys = load_run(kp_start, first_key, key < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
        values = load_run(vp_start, first_key, key < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
        _, logit_grad = probabilities(scaled, grad, lse, delta, keys, values, loaded)
        total += logit_grad

    queries = last_query - first_query
    start = grad_bias_ptr + (part.to(tl.int64) * heads + head) * pooled * queries
    place_of = key[:, None].to(tl.int64) * queries + (query - first_query)[None, :]
    tl.store(start + place_of, total, mask=(query < last_query)[None, :] & (key < pooled)[:, None])
