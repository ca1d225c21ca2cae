"""The operators as loops over scalars in NumPy and float64, written from the papers' formulas."""

import itertools
import math

import numpy as np


def _window(y: int, x: int, height: int, width: int, size: int) -> list[tuple[int, int, int]]:
    """(offset number, row, column) of the window positions inside the map."""
    radius = size // 2
    offsets = itertools.product(range(-radius, radius + 1), repeat=2)
    places = [(j, y + dy, x + dx) for j, (dy, dx) in enumerate(offsets)]
    return [(j, r, c) for j, r, c in places if 0 <= r < height and 0 <= c < width]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / max(math.sqrt((x * x).sum()), 1e-12)


def aggregated_attention(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length=None
):
    batch, height, width, heads, _ = q.shape
    pooled = list(itertools.product(range(k_pool.shape[1]), range(k_pool.shape[2])))
    out = np.zeros_like(q)
    for b, y, x, h in itertools.product(range(batch), range(height), range(width), range(heads)):
        near = _window(y, x, height, width, window)
        count = len(near) + (len(pooled) if length is None else length)
        unit = _unit(q[b, y, x, h])
        query = (unit + query_embedding[h]) * scale[h] * math.log(count)
        logits = [query @ _unit(k[b, r, c, h]) + local_bias[h, j] for j, r, c in near]
        logits += [
            query @ _unit(k_pool[b, r, c, h]) + pool_bias[h, y * width + x, p] for p, (r, c) in enumerate(pooled)
        ]
        weights = np.exp(np.array(logits) - max(logits))
        weights /= weights.sum()
        for weight, (j, r, c) in zip(weights[: len(near)], near, strict=True):
            out[b, y, x, h] += (weight + unit @ tokens[h, :, j] + token_bias[h, j]) * v[b, r, c, h]
        for weight, (r, c) in zip(weights[len(near) :], pooled, strict=True):
            out[b, y, x, h] += weight * v_pool[b, r, c, h]
    return out


def gated_dwconv(g, v, weight, bias):
    batch, height, width, channels = g.shape
    out = np.zeros_like(g)
    for b, y, x, c in itertools.product(range(batch), range(height), range(width), range(channels)):
        near = _window(y, x, height, width, weight.shape[-1])
        s = bias[c] + sum(weight[c, 0].flat[j] * g[b, row, column, c] for j, row, column in near)
        out[b, y, x, c] = s * 0.5 * (1 + math.erf(s / math.sqrt(2))) * v[b, y, x, c]
    return out


def multiscale_dwconv(x, weights, biases, identity=False, gelu=False):
    out, first = x.copy() if identity else np.zeros_like(x), 0
    for weight, bias in zip(weights, biases, strict=True):
        own = slice(first, first := first + len(bias))
        batch = [weight[:, 0]] * len(x)
        out[..., own] += dynamic_dwconv(x[..., own], batch, [bias] * len(x))
    half = np.vectorize(lambda s: 0.5 * (1 + math.erf(s / math.sqrt(2))), otypes=[float])
    return out * half(out) if gelu else out


def dynamic_dwconv(x, weight, bias):
    batch, height, width, channels = x.shape
    out = np.zeros_like(x)
    for b, y, z, c in itertools.product(range(batch), range(height), range(width), range(channels)):
        near = _window(y, z, height, width, weight[b].shape[-1])
        out[b, y, z, c] = bias[b][c] + sum(weight[b][c].flat[j] * x[b, row, column, c] for j, row, column in near)
    return out
