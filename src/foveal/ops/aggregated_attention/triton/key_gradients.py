"""Second backward kernel of aggregated attention: all sums over the queries around one key.

The mirror of the forward pass: a tile of keys gathers from the queries whose windows reach it, row by row. Each pair of
a query and a key in its window belongs to exactly one tile here, so the gradient of the local bias is summed as well.
"""

# mypy: disable-error-code="assignment, var-annotated"
# (the tuple of rows grows while Triton unrolls the loop)

from __future__ import annotations

from ...triton import jit, tl
from .tiles import (
    LN2,
    LOG2E,
    SIZES,
    by_key,
    by_offset,
    in_map,
    inverse_norm,
    load_offset_bias,
    load_run,
    load_tokens,
    log2_keys,
    map_start,
    matmul,
    place,
    similarities,
    store_run,
    through_norm,
)


@jit
def load_queries(
    q_start, g_start, lse_start, delta_start, y, first, query_x, height, width, heads, length, q_stride, g_stride,
    scale, embedding, tokens, token_bias,
    WINDOW: tl.constexpr, RUN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Load the queries of image row y from column ``first`` on: scaled queries and output gradients (RUN, DIM_PAD),
    positional attention (RUN, AREA_PAD), log-sum-exp to base 2 and delta (RUN,). Outside the map the output gradient is
    0 and the log-sum-exp infinite, so such queries contribute nothing."""
    inside = in_map(y, query_x, height, width)
    pixel = y * width + first
    q = load_run(q_start, pixel, inside, q_stride, RUN, DIM, DIM_PAD)
    grad = load_run(g_start, pixel, inside, g_stride, RUN, DIM, DIM_PAD).to(q.dtype)
    number = (tl.cast(pixel, tl.int64) + tl.arange(0, RUN)) * heads
    lse = LOG2E * tl.load(lse_start + number, mask=inside, other=float("inf"))
    delta = tl.load(delta_start + number, mask=inside, other=0.0)
    unit = q.to(tl.float32) * inverse_norm(q)[:, None]
    factor = scale * log2_keys(y, query_x, height, width, length, WINDOW)
    positions = matmul(unit.to(q.dtype), tokens) + token_bias[None, :]
    return (unit + embedding[None, :]) * factor[:, None], grad, positions.to(q.dtype), lse, delta


@jit
def gather_queries(
    scaled, grad, positions, lse, delta, keys, v, local_bias, key_row, window_column, inside, grad_unit, grad_v,
    grad_local_bias, WINDOW: tl.constexpr, RUN: tl.constexpr, AREA_PAD: tl.constexpr,
):  # fmt: skip
    """Add the queries that have these keys in row ``key_row`` of their windows: gradients of unit keys, of values, and
    of the local bias by key and offset."""
    bias = load_offset_bias(local_bias, key_row, window_column, inside, WINDOW)
    weights = tl.exp2(similarities(scaled, keys) + bias - lse[:, None])
    logit_grad = (weights * (matmul(grad, tl.trans(v)) - delta[:, None])).to(keys.dtype)
    weights += by_key(positions, key_row, window_column, WINDOW, RUN, AREA_PAD)
    grad_v += matmul(tl.trans(weights.to(keys.dtype)), grad)
    grad_unit += matmul(tl.trans(logit_grad), scaled.to(keys.dtype))
    grad_local_bias = by_offset(logit_grad, grad_local_bias, key_row, window_column, keys.dtype, WINDOW, RUN, AREA_PAD)
    return grad_unit, grad_v, grad_local_bias


@jit(do_not_specialize=SIZES)
def key_gradients_kernel(
    g_ptr, q_ptr, k_ptr, v_ptr, scale_ptr, embedding_ptr, local_bias_ptr, tokens_ptr, token_bias_ptr, lse_ptr,
    delta_ptr, grad_k_ptr, grad_v_ptr, grad_local_bias_ptr,
    g_batch, g_pixel, g_head, q_batch, q_pixel, q_head, k_batch, k_pixel, k_head, v_batch, v_pixel, v_head,
    heads, height, width, length, strips, blocks, rows,
    ALIGN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr, WINDOW: tl.constexpr, AREA_PAD: tl.constexpr,
    RUN: tl.constexpr, ROLL: tl.constexpr,
):  # fmt: skip
    """Write the gradients of k and v, and this program's share of local_bias's (n, h, k*k)."""
    AREA: tl.constexpr = WINDOW * WINDOW
    RADIUS: tl.constexpr = WINDOW // 2
    USEFUL: tl.constexpr = RUN - WINDOW + 1
    batch, head, strip, block = place(heads, strips, blocks)
    g_start = map_start(g_ptr, batch, head, g_batch * ALIGN, g_head * ALIGN)
    q_start = map_start(q_ptr, batch, head, q_batch * ALIGN, q_head * ALIGN)
    k_start = map_start(k_ptr, batch, head, k_batch * ALIGN, k_head * ALIGN)
    v_start = map_start(v_ptr, batch, head, v_batch * ALIGN, v_head * ALIGN)
    grad_k_start = map_start(grad_k_ptr, batch, head, height * width * heads * DIM, DIM)
    grad_v_start = map_start(grad_v_ptr, batch, head, height * width * heads * DIM, DIM)
    lse_start = map_start(lse_ptr, batch, head, height * width * heads, 1)
    delta_start = map_start(delta_ptr, batch, head, height * width * heads, 1)

    column = tl.arange(0, RUN)
    first = strip * USEFUL
    key_x = first + column
    key_inside = (column < USEFUL) & (key_x < width)
    query_x = key_x - RADIUS
    window_column = WINDOW - 1 + column[None, :] - column[:, None]  # queries (rows) start 2 * radius before keys here
    channel = tl.arange(0, DIM_PAD)
    offset = tl.arange(0, AREA_PAD)
    scale = tl.load(scale_ptr + head).to(tl.float32)
    embedding = tl.load(embedding_ptr + head * DIM + channel, mask=channel < DIM, other=0.0).to(tl.float32)
    tokens = load_tokens(tokens_ptr, head, DIM, DIM_PAD, AREA, AREA_PAD).to(q_ptr.dtype.element_ty)
    token_bias = tl.load(token_bias_ptr + head * AREA + offset, mask=offset < AREA, other=0.0).to(tl.float32)
    local_bias = local_bias_ptr + head * AREA
    grad_local_bias = tl.zeros((RUN, AREA_PAD), tl.float32)

    rolled = ()
    if ROLL:  # queries of the neighbouring rows stay in registers, and one row is loaded at every step
        for row in tl.static_range(WINDOW - 1):
            rolled = rolled + (  # noqa: RUF005, Triton unpacks no tuples
                load_queries(
                    q_start, g_start, lse_start, delta_start, block * rows + row - RADIUS, first - RADIUS, query_x,
                    height, width, heads, length, q_pixel * ALIGN, g_pixel * ALIGN, scale, embedding, tokens,
                    token_bias, WINDOW, RUN, DIM, DIM_PAD,
                ),
            )  # fmt: skip

    for y in range(block * rows, tl.minimum(block * rows + rows, height)):
        pixel = y * width + first
        k = load_run(k_start, pixel, key_inside, k_pixel * ALIGN, RUN, DIM, DIM_PAD)
        v = load_run(v_start, pixel, key_inside, v_pixel * ALIGN, RUN, DIM, DIM_PAD)
        inverse = inverse_norm(k)
        unit_k = k.to(tl.float32) * inverse[:, None]
        grad_unit = tl.zeros((RUN, DIM_PAD), tl.float32)
        grad_v = tl.zeros((RUN, DIM_PAD), tl.float32)
        if ROLL:
            rolled = rolled + (  # noqa: RUF005, Triton unpacks no tuples
                load_queries(
                    q_start, g_start, lse_start, delta_start, y + RADIUS, first - RADIUS, query_x, height, width,
                    heads, length, q_pixel * ALIGN, g_pixel * ALIGN, scale, embedding, tokens, token_bias,
                    WINDOW, RUN, DIM, DIM_PAD,
                ),
            )  # fmt: skip
            for row in tl.static_range(WINDOW):  # the first queries have these keys in their last row
                scaled, grad, positions, lse, delta = rolled[row]
                grad_unit, grad_v, grad_local_bias = gather_queries(
                    scaled, grad, positions, lse, delta, k, v, local_bias, WINDOW - 1 - row, window_column,
                    key_inside, grad_unit, grad_v, grad_local_bias, WINDOW, RUN, AREA_PAD,
                )  # fmt: skip
            rolled = rolled[1:]
        else:
            for row in range(WINDOW):
                scaled, grad, positions, lse, delta = load_queries(
                    q_start, g_start, lse_start, delta_start, y + row - RADIUS, first - RADIUS, query_x, height, width,
                    heads, length, q_pixel * ALIGN, g_pixel * ALIGN, scale, embedding, tokens, token_bias,
                    WINDOW, RUN, DIM, DIM_PAD,
                )  # fmt: skip
                grad_unit, grad_v, grad_local_bias = gather_queries(
                    scaled, grad, positions, lse, delta, k, v, local_bias, WINDOW - 1 - row, window_column,
                    key_inside, grad_unit, grad_v, grad_local_bias, WINDOW, RUN, AREA_PAD,
                )  # fmt: skip

        grad_k = through_norm(grad_unit * LN2, unit_k, inverse)
        store_run(grad_k_start, pixel, key_inside, heads * DIM, grad_k, RUN, DIM, DIM_PAD)
        store_run(grad_v_start, pixel, key_inside, heads * DIM, grad_v, RUN, DIM, DIM_PAD)

    share = ((batch * blocks + block) * strips + strip).to(tl.int64) * heads + head
    tl.store(grad_local_bias_ptr + share * AREA + offset, tl.sum(grad_local_bias, 0), mask=offset < AREA)
