"""First backward kernel of aggregated attention: all sums over the keys of one query.

With p the probability of a key, g the gradient of the output and t = g . v the gradient of p, softmax gives the logit
gradient p (t - delta) with delta = sum p t. Delta is known only after the last key, so two sums run at once,
sum p t key and sum p key, and are combined at the end. Three measures keep their difference exact: t is taken relative
to g's product with the mean pooled value, which is close to delta if values have a common part; probabilities enter
matrix units in two parts; and both sums are divided by sum p, which the rounding of the log-sum-exp moves off 1.
"""

from __future__ import annotations

from ...triton import jit, tl
from .position_bias import load_pool_bias
from .tiles import (
    LN2,
    LOG2E,
    SIZES,
    by_offset,
    exact_matmul,
    in_map,
    inverse_norm,
    load_keys,
    load_offset_bias,
    load_run,
    load_tokens,
    log2_keys,
    map_start,
    matmul,
    normalised,
    place,
    similarities,
    store_run,
    through_norm,
)


@jit
def gather(similar, bias, lse, grad, keys, values, around, sums):
    """Add these keys to the sums over keys of p t, p, p t key and p key, and of the latter two with the similarity in
    place of the key. Returns the sums, and t."""
    delta, total, with_grad, plain, similar_with_grad, similar_plain = sums
    weights = tl.exp2(similar + bias - lse[:, None])
    value_grad = matmul(grad, tl.trans(values))
    moved = weights * (value_grad - around[:, None])
    unit = normalised(keys)
    sums = (
        delta + tl.sum(moved, 1),
        total + tl.sum(weights, 1),
        with_grad + exact_matmul(moved, unit),  # rounded to half types, their difference would be noise
        plain + exact_matmul(weights, unit),
        similar_with_grad + tl.sum(moved * similar, 1),
        similar_plain + tl.sum(weights * similar, 1),
    )
    return sums, value_grad


@jit
def gather_pool(
    scaled, lse, grad, keys, values, bias, query, key, queries, pooled, around, sums, BIAS_FORM: tl.constexpr
):  # fmt: skip
    """``gather`` for a block of pooled keys."""
    loaded = tl.trans(load_pool_bias(bias, query, key, queries, pooled, BIAS_FORM))
    sums, _ = gather(similarities(scaled, keys), loaded, lse, grad, keys, values, around, sums)
    return sums


@jit
def gather_window(
    scaled, lse, grad, k, v, local_bias, key_row, window_column, inside, around, sums, position_grad,
    WINDOW: tl.constexpr, RUN: tl.constexpr, AREA_PAD: tl.constexpr,
):  # fmt: skip
    """``gather`` for one row of the window, and t of its positional attention, which is not rounded: the gradient of
    token_bias is its sum over all queries."""
    bias = load_offset_bias(local_bias, key_row, window_column, inside, WINDOW)
    sums, value_grad = gather(similarities(scaled, k), bias, lse, grad, k, v, around, sums)
    position_grad = by_offset(value_grad, position_grad, key_row, window_column, k.dtype, WINDOW, RUN, AREA_PAD)
    return sums, position_grad


@jit(do_not_specialize=SIZES)
def query_gradients_kernel(
    g_ptr, q_ptr, k_ptr, v_ptr, kp_ptr, vp_ptr, scale_ptr, embedding_ptr, local_bias_ptr, pool_bias_ptr, bias_keys_ptr,
    bias_shares_ptr, tokens_ptr, lse_ptr, delta_ptr, grad_q_ptr, grad_scale_ptr, grad_embedding_ptr, grad_tokens_ptr,
    grad_token_bias_ptr,
    g_batch, g_pixel, g_head, q_batch, q_pixel, q_head, k_batch, k_pixel, k_head, v_batch, v_pixel, v_head,
    kp_batch, kp_pixel, kp_head, vp_batch, vp_pixel, vp_head,
    bias_head, bias_row, bias_query, bias_key, bias_width, bias_reference,
    heads, height, width, pooled, length, strips, blocks, rows,
    ALIGN: tl.constexpr, BIAS_FORM: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr, WINDOW: tl.constexpr,
    AREA_PAD: tl.constexpr, RUN: tl.constexpr, POOL_BLOCK: tl.constexpr, ONE_POOL_BLOCK: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """Write the gradient of q, delta (B, H, W, h), and this program's share of the gradients of scale (n, h),
    embedding (n, h, d), tokens (n, h, d, k*k) and token_bias (n, h, k*k)."""
    AREA: tl.constexpr = WINDOW * WINDOW
    RADIUS: tl.constexpr = WINDOW // 2
    USEFUL: tl.constexpr = RUN - 2 * RADIUS
    batch, head, strip, block = place(heads, strips, blocks)
    g_start = map_start(g_ptr, batch, head, g_batch * ALIGN, g_head * ALIGN)
    q_start = map_start(q_ptr, batch, head, q_batch * ALIGN, q_head * ALIGN)
    k_start = map_start(k_ptr, batch, head, k_batch * ALIGN, k_head * ALIGN)
    v_start = map_start(v_ptr, batch, head, v_batch * ALIGN, v_head * ALIGN)
    kp_start = map_start(kp_ptr, batch, head, kp_batch * ALIGN, kp_head * ALIGN)
    vp_start = map_start(vp_ptr, batch, head, vp_batch * ALIGN, vp_head * ALIGN)
    bias_start = pool_bias_ptr + head.to(tl.int64) * bias_head
    bias = (
        bias_start, bias_keys_ptr, bias_shares_ptr, bias_row, bias_query, bias_key, bias_width, bias_reference,
    )  # fmt: skip
    grad_q_start = map_start(grad_q_ptr, batch, head, height * width * heads * DIM, DIM)
    lse_start = map_start(lse_ptr, batch, head, height * width * heads, 1)
    delta_start = map_start(delta_ptr, batch, head, height * width * heads, 1)

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
    local_bias = local_bias_ptr + head * AREA
    pool = tl.arange(0, POOL_BLOCK)
    pool_keys = load_run(kp_start, 0, pool < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
    pool_values = load_run(vp_start, 0, pool < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
    mean_value = tl.sum(pool_values.to(tl.float32), 0) / tl.minimum(pooled, POOL_BLOCK)

    grad_scale = tl.zeros((RUN,), tl.float32)
    grad_embedding = tl.zeros((RUN, DIM_PAD), tl.float32)
    grad_tokens = tl.zeros((DIM_PAD, AREA_PAD), tl.float32)
    grad_token_bias = tl.zeros((RUN, AREA_PAD), tl.float32)

    for y in range(block * rows, tl.minimum(block * rows + rows, height)):
        pixel = y * width + first
        q = load_run(q_start, pixel, query_inside, q_pixel * ALIGN, RUN, DIM, DIM_PAD)
        grad = load_run(g_start, pixel, query_inside, g_pixel * ALIGN, RUN, DIM, DIM_PAD).to(q.dtype)
        number = pixel.to(tl.int64) + column
        lse = LOG2E * tl.load(lse_start + number * heads, mask=query_inside, other=float("inf"))
        inverse = inverse_norm(q)
        unit = q.to(tl.float32) * inverse[:, None]
        log_n = log2_keys(y, query_x, height, width, length, WINDOW)
        embedded = unit + embedding[None, :]
        scaled = embedded * (scale * log_n)[:, None]
        around = tl.sum(grad.to(tl.float32) * mean_value[None, :], 1)
        zero = tl.zeros((RUN,), tl.float32)
        zeros = tl.zeros((RUN, DIM_PAD), tl.float32)
        sums = (zero, zero, zeros, zeros, zero, zero)

        query, queries = pixel + column, height * width
        sums = gather_pool(
            scaled, lse, grad, pool_keys, pool_values, bias, query, pool, queries, pooled, around, sums, BIAS_FORM
        )
        if not ONE_POOL_BLOCK:
            for done in range(POOL_BLOCK, pooled, POOL_BLOCK):
                key = done + pool
                keys = load_run(kp_start, done, key < pooled, kp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
                values = load_run(vp_start, done, key < pooled, vp_pixel * ALIGN, POOL_BLOCK, DIM, DIM_PAD)
                sums = gather_pool(
                    scaled, lse, grad, keys, values, bias, query, key, queries, pooled, around, sums, BIAS_FORM
                )

        position_grad = tl.zeros((RUN, AREA_PAD), tl.float32)
        if WINDOW > 0:
            for key_row in tl.range(0, WINDOW, loop_unroll_factor=UNROLL):
                k, v = load_keys(
                    k_start, v_start, y + key_row - RADIUS, first - RADIUS, key_x, height, width, k_pixel * ALIGN,
                    v_pixel * ALIGN, RUN, DIM, DIM_PAD,
                )  # fmt: skip
                inside = in_map(y + key_row - RADIUS, key_x, height, width)
                sums, position_grad = gather_window(
                    scaled, lse, grad, k, v, local_bias, key_row, window_column, inside, around, sums, position_grad,
                    WINDOW, RUN, AREA_PAD,
                )  # fmt: skip

        delta, total, with_grad, plain, similar_with_grad, similar_plain = sums
        inverse_total = 1.0 / tl.where(query_inside, total, 1.0)
        delta *= inverse_total
        grad_scaled = (with_grad - delta[:, None] * plain) * inverse_total[:, None]
        # Similarities are exact; the unit keys in the sums above are rounded, and serve only if scale is 0.
        exact = (similar_with_grad - delta * similar_plain) * inverse_total / tl.where(scale == 0.0, 1.0, scale)
        grad_scale += LN2 * tl.where(scale == 0.0, tl.sum(grad_scaled * embedded, 1) * log_n, exact)
        grad_embedded = grad_scaled * (scale * log_n * LN2)[:, None]
        grad_embedding += grad_embedded
        grad_unit = grad_embedded
        if WINDOW > 0:
            grad_token_bias += position_grad
            grad_tokens += matmul(tl.trans(unit.to(q.dtype)), position_grad.to(q.dtype))
            grad_unit += matmul(position_grad.to(q.dtype), tl.trans(tokens))
        grad_q = through_norm(grad_unit, unit, inverse)
        store_run(grad_q_start, pixel, query_inside, heads * DIM, grad_q, RUN, DIM, DIM_PAD)
        tl.store(delta_start + number * heads, delta + around, mask=query_inside)

    share = ((batch * blocks + block) * strips + strip).to(tl.int64) * heads + head
    tl.store(grad_scale_ptr + share, tl.sum(grad_scale, 0))
    tl.store(grad_embedding_ptr + share * DIM + channel, tl.sum(grad_embedding, 0), mask=channel < DIM)
    if WINDOW > 0:
        tl.store(grad_token_bias_ptr + share * AREA + offset, tl.sum(grad_token_bias, 0), mask=offset < AREA)
        tl.store(
            grad_tokens_ptr + share * DIM * AREA + channel[:, None] * AREA + offset[None, :],
            grad_tokens,
            mask=(channel < DIM)[:, None] & (offset < AREA)[None, :],
        )
