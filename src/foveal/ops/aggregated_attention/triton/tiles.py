"""The tile that all kernels of aggregated attention work on, and the device functions that operate on it.

A tile is a run of RUN pixels of one image row, for one head. With the RUN keys that start ``radius`` pixels earlier in
a nearby row it forms a RUN x RUN product, whose useful part is a band: key column minus query column is the column of
the window. RUN - WINDOW + 1 queries have their whole window inside, so tiles overlap by WINDOW - 1. Matrix units
compute the whole square in less time than the lanes need for the shifted multiply-adds alone, which cost an address
and a conversion for every number of every shift.

Inside kernels logits are to base 2 (the hardware has ``exp2``): scaled queries and biases carry log2(e).
"""

from __future__ import annotations

from ...triton import constant, jit, tl
from .position_bias import BIAS_SIZES
from .position_bias import LOG2E as LOG2E

# Numbers that change with the image: kernels are not specialised for them.
SIZES = (
    "q_batch", "q_pixel", "q_head", "k_batch", "k_pixel", "k_head", "v_batch", "v_pixel", "v_head",
    "kp_batch", "kp_pixel", "kp_head", "vp_batch", "vp_pixel", "vp_head", "g_batch", "g_pixel", "g_head",
    "batches", "heads", "height", "width", "pooled", "length", "strips", "blocks", "rows", "share", "first_query",
    "last_query", *BIAS_SIZES,
)  # fmt: skip
EPS = constant(1e-12)  # of the L2 normalisation
LN2 = constant(0.6931471805599453)


@jit
def place(heads, strips, blocks):
    """The work of this program: (batch, head, strip of columns, block of rows). Heads are consecutive, because they
    share cache lines."""
    program = tl.program_id(0)
    head = program % heads
    strip = program // heads % strips
    block = program // heads // strips % blocks
    return program // heads // strips // blocks, head, strip, block


@jit
def map_start(ptr, batch, head, batch_stride, head_stride):
    """Address of the first pixel of one sample and head. A whole batch may exceed 2**31 elements."""
    return ptr + (batch.to(tl.int64) * batch_stride + head.to(tl.int64) * head_stride)


@jit
def load_run(start, pixel, inside, stride, RUN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """(RUN, DIM_PAD) of the pixels from number ``pixel`` on, in memory's dtype; 0 where not ``inside``."""
    channel = tl.arange(0, DIM_PAD)
    offsets = tl.arange(0, RUN)[:, None] * stride + channel[None, :]
    mask = inside[:, None] & (channel < DIM)[None, :]
    return tl.load(start + tl.cast(pixel, tl.int64) * stride + offsets, mask=mask, other=0.0)


@jit
def store_run(start, pixel, inside, stride, x, RUN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """Write to the place that ``load_run`` reads."""
    channel = tl.arange(0, DIM_PAD)
    offsets = tl.arange(0, RUN)[:, None] * stride + channel[None, :]
    mask = inside[:, None] & (channel < DIM)[None, :]
    tl.store(start + tl.cast(pixel, tl.int64) * stride + offsets, x.to(start.dtype.element_ty), mask=mask)


@jit
def in_map(y, x, height, width):
    """(n,) bool: whether the pixels at row y and columns x are in the map."""
    rows = y + tl.zeros_like(x)  # a vector, because Triton's interpreter turns a single truth value into a number
    return (x >= 0) & (x < width) & (rows >= 0) & (rows < height)


@jit
def inverse_norm(x):
    """(n,): one over the L2 norm of every row of x, in float32. For float32 rows root and quotient are correctly
    rounded: logits are exponents, and the hardware's approximate root would cost every probability a digit."""
    wide = x.to(tl.float32)
    squared = tl.maximum(tl.sum(wide * wide, 1), EPS * EPS)
    return tl.div_rn(1.0, tl.sqrt_rn(squared)) if x.dtype == tl.float32 else tl.rsqrt(squared)


@jit
def normalised(x):
    """The rows of x divided by their L2 norm, rounded to x's dtype for matrix units."""
    return (x.to(tl.float32) * inverse_norm(x)[:, None]).to(x.dtype)


@jit
def two_parts(x, dtype: tl.constexpr):
    """Split float32 x into the sum of two numbers of a half type, which keeps twice its digits through matrix units."""
    high = x.to(dtype)
    return high, (x - high.to(tl.float32)).to(dtype)


@jit
def exact_matmul(a, b):
    """a @ b in float32 for a in float32, without rounding a to b's type."""
    if b.dtype == tl.float32:
        product = matmul(a, b)
    else:
        high, low = two_parts(a, b.dtype)
        product = matmul(high, b) + matmul(low, b)
    return product


@jit
def similarities(scaled, keys):
    """(queries, keys) in float32: scaled queries (float32) times unit keys (passed unnormalised). Logits are exponents,
    so rounding to a half type would cost the probabilities their digits: nothing is rounded to one here."""
    return exact_matmul(scaled, tl.trans(keys)) * inverse_norm(keys)[None, :]


@jit
def load_keys(
    k_start, v_start, y, first, key_x, height, width, k_stride, v_stride,
    RUN: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
):  # fmt: skip
    """Keys and values of image row y, (RUN, DIM_PAD) each, from column ``first`` on; 0 outside the map."""
    inside = in_map(y, key_x, height, width)
    k = load_run(k_start, y * width + first, inside, k_stride, RUN, DIM, DIM_PAD)
    return k, load_run(v_start, y * width + first, inside, v_stride, RUN, DIM, DIM_PAD)


@jit
def through_norm(grad, unit, inverse):
    """Gradient of x from that of unit = x * inverse; below EPS the norm is a constant."""
    along = tl.where(inverse < 0.999 / EPS, tl.sum(grad * unit, 1), 0.0)
    return inverse[:, None] * (grad - unit * along[:, None])


@jit
def matmul(a, b):
    """a @ b in float32; float32 arguments are not rounded to TF32."""
    return tl.dot(a, b, input_precision="ieee")


@jit
def log2_keys(y, x, height, width, length, WINDOW: tl.constexpr):
    """log2 of the number of keys of the queries at row y and columns x, ``length`` of them pooled."""
    rows = tl.minimum(y + WINDOW // 2, height - 1) - tl.maximum(y - WINDOW // 2, 0) + 1
    columns = tl.minimum(x + WINDOW // 2, width - 1) - tl.maximum(x - WINDOW // 2, 0) + 1
    around = rows * columns if WINDOW > 0 else 0 * x
    return tl.log2(tl.maximum(around + length, 1).to(tl.float32))  # pixels outside the map have no such number


@jit
def load_offset_bias(start, key_row, window_column, inside, WINDOW: tl.constexpr):
    """(RUN, RUN) of the local bias to base 2: row ``key_row`` of the window by ``window_column``; -inf outside the band
    and for keys (columns) that are not ``inside``, whose probability is 0."""
    band = (window_column >= 0) & (window_column < WINDOW)
    bias = tl.load(start + key_row * WINDOW + window_column, mask=band, other=-float("inf")).to(tl.float32)
    return LOG2E * bias + tl.where(inside, 0.0, -float("inf"))[None, :]


@jit
def load_tokens(tokens, head, DIM: tl.constexpr, DIM_PAD: tl.constexpr, AREA: tl.constexpr, AREA_PAD: tl.constexpr):
    """(DIM_PAD, AREA_PAD): the learned tokens of a head, one column per window offset."""
    channel, offset = tl.arange(0, DIM_PAD)[:, None], tl.arange(0, AREA_PAD)[None, :]
    mask = (channel < DIM) & (offset < AREA)
    return tl.load(tokens + head * DIM * AREA + channel * AREA + offset, mask=mask, other=0.0)


@jit
def by_key(by_offset, key_row, window_column, WINDOW: tl.constexpr, RUN: tl.constexpr, AREA_PAD: tl.constexpr):
    """Turn numbers by query and window offset (RUN, AREA_PAD) into (RUN, RUN) by query and key column, 0 outside the
    band.

    A product with a matrix that has a single row of ones copies one offset's numbers to all key columns, exactly; the
    band selects where they belong. So nothing moves between lanes except inside matrix units.
    """
    offset = tl.arange(0, AREA_PAD)[:, None] + tl.zeros((1, RUN), tl.int32)
    tile = tl.zeros((RUN, RUN), tl.float32)
    for column in tl.static_range(WINDOW):
        pick = (offset == key_row * WINDOW + column).to(by_offset.dtype)
        tile = tl.where(window_column == column, matmul(by_offset, pick), tile)
    return tile


@jit
def by_offset(
    tile, total, key_row, window_column, dtype: tl.constexpr, WINDOW: tl.constexpr, RUN: tl.constexpr,
    AREA_PAD: tl.constexpr,
):  # fmt: skip
    """Add a (RUN, RUN) tile by row and column of the band to ``total``, (RUN, AREA_PAD) by row and window offset: the
    inverse of ``by_key``. Matrix units take ``dtype``; a float32 tile passes through them unrounded."""
    offset = tl.arange(0, AREA_PAD)[None, :] + tl.zeros((RUN, 1), tl.int32)
    if tile.dtype == dtype:
        for column in tl.static_range(WINDOW):
            pick = (offset == key_row * WINDOW + column).to(dtype)
            total += matmul(tl.where(window_column == column, tile, 0.0), pick)
    else:
        high, low = two_parts(tile, dtype)
        for column in tl.static_range(WINDOW):
            pick = (offset == key_row * WINDOW + column).to(dtype)
            total += matmul(tl.where(window_column == column, high, 0.0), pick)
            total += matmul(tl.where(window_column == column, low, 0.0), pick)
    return total
