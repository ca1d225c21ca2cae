"""Forward kernel of aggregated attention: normalisation, both kinds of keys, one softmax and positional attention.

A program computes one head of one sample: it walks down a strip of columns for a number of rows and keeps pooled keys
and values in registers. The softmax is online: pooled keys first (there is always one), then the window row by row.
TransNeXt paper, equations 10-12; ``tiles`` describes the tile.
"""

from __future__ import annotations

from ...triton import jit, tl
from .position_bias import load_pool_bias
from .tiles import (
    LN2,
    SIZES,
    by_key,
    in_map,
    inverse_norm,
    load_keys,
    load_offset_bias,
    load_run,
    load_tokens,
    log2_keys,
    map_start,
    matmul,
    place,
    similarities,
    store_run,
)


@jit
def absorb(logits, values, most, total, out):
    """Online softmax: add the keys of these logits and values. Returns the three running results."""
    new_most = tl.maximum(most, tl.max(logits, 1))
    shrink = tl.exp2(most - new_most)
    weights = tl.exp2(logits - new_most[:, None])
    out = out * shrink[:, None] + matmul(weights.to(values.dtype), values)
    return new_most, total * shrink + tl.sum(weights, 1), out


@jit
def absorb_pool(
    scaled, keys, values, bias, query, key, queries, pooled, most, total, out, BIAS_FORM: tl.constexpr
):  # fmt: skip
    """``absorb`` for a block of pooled keys."""
    logits = similarities(scaled, keys) + tl.trans(load_pool_bias(bias, query, key, queries, pooled, BIAS_FORM))
    return absorb(logits, values, most, total, out)


@jit
def absorb_window(
    scaled, k, v, local_bias, positions, key_row, window_column, inside, most, total, out, positioned,
    WINDOW: tl.constexpr, RUN: tl.constexpr, AREA_PAD: tl.constexpr,
):  # fmt: skip
    """``absorb`` for one row of the window, with its positional attention."""
    bias = load_offset_bias(local_bias, key_row, window_column, inside, WINDOW)
    most, total, out = absorb(similarities(scaled, k) + bias, v, most, total, out)
    position = by_key(positions, key_row, window_column, WINDOW, RUN, AREA_PAD)
    return most, total, out, positioned + matmul(position.to(v.dtype), v)


@jit(do_not_specialize=SIZES)
def forward_kernel(
    q_ptr, k_ptr, v_ptr, kp_ptr, vp_ptr, scale_ptr, embedding_ptr, local_bias_ptr, pool_bias_ptr, bias_keys_ptr,
    bias_shares_ptr, tokens_ptr, token_bias_ptr, out_ptr, lse_ptr,
    q_batch, q_pixel, q_head, k_batch, k_pixel, k_head, v_batch, v_pixel, v_head,
    kp_batch, kp_pixel, kp_head, vp_batch, vp_pixel, vp_head,
    bias_head, bias_row, bias_query, bias_key, bias_width, bias_reference,
    heads, height, width, pooled, length, strips, blocks, rows,
    ALIGN: tl.constexpr, BIAS_FORM: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr, WINDOW: tl.constexpr,
    AREA_PAD: tl.constexpr, RUN: tl.constexpr, POOL_BLOCK: tl.constexpr, ONE_POOL_BLOCK: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """Write the output (B, H, W, h, d) and the natural log-sum-exp (B, H, W, h) of every query."""
    AREA: tl.constexpr = WINDOW * WINDOW
    RADIUS: tl.constexpr = WINDOW // 2
    USEFUL: tl.constexpr = RUN - 2 * RADIUS
    batch, head, strip, block = place(heads, strips, blocks)
    q_start = map_start(q_ptr, batch, head, q_batch * ALIGN, q_head * ALIGN)
    k_start = map_start(k_ptr, batch, head, k_batch * ALIGN, k_head * ALIGN)
    v_start = map_start(v_ptr, batch, head, v_batch * ALIGN, v_head * ALIGN)
    kp_start = map_start(kp_ptr, batch, head, kp_batch * ALIGN, kp_head * ALIGN)
    vp_start = map_start(vp_ptr, batch, head, vp_batch * ALIGN, vp_head * ALIGN)
    bias_start = pool_bias_ptr + head.to(tl.int64) * bias_head
    bias = (
        bias_start, bias_keys_ptr, bias_shares_ptr, bias_row, bias_query, bias_key, bias_width, bias_reference,
    )  # fmt: skip
    out_start = map_start(out_ptr, batch, head, height * width * heads * DIM, DIM)
    lse_start = map_start(lse_ptr, batch, head, height * width * heads, 1)

    column = tl.arange(0, RUN)
    first = strip * USEFUL
    query_x = first + column
    query_inside = (column < USEFUL) & (query_x < width)
    key_x = query_x - RADIUS
    window_column = column[None, :] - column[:, None]

    channel = tl.arange(0, DIM_PAD)
    offset = tl.arange(0, AREA_PAD)
    scale = tl.load(scale_ptr + head).to(tl.float32)
    embedding = tl.load(embedding_ptr + head * DIM + channel, mask=channel < DIM, other=0.0).to(tl.float32)
    tokens = load_tokens(tokens_ptr, head, DIM, DIM_PAD, AREA, AREA_PAD).to(q_ptr.dtype.element_ty)
    token_bias = tl.load(token_bias_ptr + head * AREA + offset, mask=offset < AREA, other=0.0).to(tl.float32)
    local_bias = local_bias_ptr + head * AREA
    pool = tl.arange(0, POOL_BLOCK)
    if ONE_POOL_BLOCK:
        pool_keys = load_run(kp_start, 0, pool < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
        pool_values = load_run(vp_start, 0, pool < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)

    for y in range(block * rows, tl.minimum(block * rows + rows, height)):
        pixel = y * width + first
        q = load_run(q_start, pixel, query_inside, q_pixel * ALIGN, RUN, DIM, DIM_PAD)
        unit = q.to(tl.float32) * inverse_norm(q)[:, None]
        factor = scale * log2_keys(y, query_x, height, width, length, WINDOW)
        scaled = (unit + embedding[None, :]) * factor[:, None]
        most = tl.full((RUN,), -float("inf"), tl.float32)
        total = tl.zeros((RUN,), tl.float32)
        attended = tl.zeros((RUN, DIM_PAD), tl.float32)

        query, queries = pixel + column, height * width
        if ONE_POOL_BLOCK:
            most, total, attended = absorb_pool(
                scaled, pool_keys, pool_values, bias, query, pool, queries, pooled, most, total, attended, BIAS_FORM
            )
        else:
            for done in range(0, pooled, POOL_BLOCK):
                key = done + pool
                pool_keys = load_run(kp_start, done, key < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
                pool_values = load_run(vp_start, done, key < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
                most, total, attended = absorb_pool(
                    scaled, pool_keys, pool_values, bias, query, key, queries, pooled, most, total, attended, BIAS_FORM
                )

        positioned = tl.zeros((RUN, DIM_PAD), tl.float32)
        if WINDOW > 0:
            positions = (matmul(unit.to(q.dtype), tokens) + token_bias[None, :]).to(q.dtype)
            for key_row in tl.range(0, WINDOW, loop_unroll_factor=UNROLL):
                k, v = load_keys(
                    k_start, v_start, y + key_row - RADIUS, first - RADIUS, key_x, height, width, k_pixel * ALIGN,
                    v_pixel * ALIGN, RUN, DIM, DIM_PAD,
                )  # fmt: skip
                inside = in_map(y + key_row - RADIUS, key_x, height, width)
                most, total, attended, positioned = absorb_window(
                    scaled, k, v, local_bias, positions, key_row, window_column, inside, most, total, attended,
                    positioned, WINDOW, RUN, AREA_PAD,
                )  # fmt: skip

        out = attended * (1.0 / total)[:, None] + positioned
        store_run(out_start, pixel, query_inside, heads * DIM, out, RUN, DIM, DIM_PAD)
        lse = (most + tl.log2(total)) * LN2
        tl.store(lse_start + (pixel.to(tl.int64) + column) * heads, lse, mask=query_inside)
