"""Aggregated attention by shifted views: plain PyTorch on any device, without a copy of the window.

Key and value maps are padded once; window position j of every query is then one strided view of them. Forward saves
the log-sum-exp of every query, from which backward recomputes the probabilities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from ..numerics import accumulation_dtype, normalise, normalise_backward
from .reference import log_length, window_mask
from .resize import dense_bias, dense_bias_backward
from .schema import POOL_BIAS, TABLE_TENSORS, TENSORS, arrange_gradients


def _pad(x: Tensor, radius: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, radius, radius, radius, radius))


def _views(padded: Tensor, height: int, width: int, window: int) -> list[Tensor]:
    """The k*k views (B, H, W, h, d) of a padded map, row by row."""
    return [padded[:, y : y + height, x : x + width] for y in range(window) for x in range(window)]


def _heads_first(x: Tensor) -> Tensor:
    """(B, ..., h, c) -> (B, h, N, c), so that products over pooled keys are batched matrix products."""
    return x.flatten(1, -3).transpose(1, 2)


def _tokens_first(x: Tensor, like: Tensor) -> Tensor:
    """(B, h, N, c) -> (B, H, W, h, c)."""
    return x.transpose(1, 2).unflatten(1, like.shape[1:3])


class _Call:
    """The intermediate results that forward and backward share, in the accumulation dtype."""

    def __init__(self, q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, window, length):
        self.shape = q.shape[1:3]
        self.window = window
        dtype = accumulation_dtype(q.dtype)
        height, width = self.shape
        self.unit_q, self.inverse_q = normalise(q.to(dtype))
        self.unit_k, self.inverse_k = normalise(k.to(dtype))
        self.unit_kp, self.inverse_kp = normalise(k_pool.to(dtype))
        self.v, self.v_pool = v.to(dtype), v_pool.to(dtype)
        self.mask = window_mask(height, width, window, q.device)
        self.factor = scale.to(dtype)[:, None] * log_length(self.mask, length, dtype)  # (H, W, h, 1)
        self.embedded = self.unit_q + query_embedding.to(dtype)
        self.scaled = self.embedded * self.factor
        self.keys = self.views(self.unit_k)
        self.values = self.views(self.v)
        self.logits = self._logits(local_bias.to(dtype), pool_bias.to(dtype))

    def views(self, x: Tensor) -> list[Tensor]:
        height, width = self.shape
        if self.window == 0:
            return []
        return _views(_pad(x, self.window // 2), height, width, self.window)

    def _logits(self, local_bias: Tensor, pool_bias: Tensor) -> Tensor:
        """(B, H, W, h, k*k + P)."""
        local = self.by_position([(self.scaled * key).sum(-1) for key in self.keys])
        local = (local + local_bias).masked_fill_(~self.mask[:, :, None], -torch.inf)
        pooled = _heads_first(self.scaled) @ _heads_first(self.unit_kp).mT + pool_bias
        return torch.cat([local, _tokens_first(pooled, self.unit_q)], -1)

    def by_position(self, numbers: list[Tensor]) -> Tensor:
        """(B, H, W, h, k*k) from one tensor (B, H, W, h) per window position, of which there may be none."""
        return torch.stack(numbers, -1) if numbers else self.unit_q[..., :0]

    def positional(self, tokens: Tensor, token_bias: Tensor) -> Tensor:
        """(B, H, W, h, k*k): positional attention, added to the probabilities after the softmax."""
        dtype = self.unit_q.dtype
        product = torch.einsum("byxhd,hdj->byxhj", self.unit_q, tokens.to(dtype))
        return product + token_bias.to(dtype)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The window part and the pooled part of the last dimension."""
        return x[..., : self.window**2], x[..., self.window**2 :]


def forward(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length
) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) in q's dtype, and the log-sum-exp (B, H, W, h) in the accumulation dtype."""
    call = _Call(q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, window, length)
    lse = call.logits.logsumexp(-1)
    local, pooled = call.split((call.logits - lse[..., None]).exp_())
    local = local + call.positional(tokens, token_bias)
    out = _tokens_first(_heads_first(pooled) @ _heads_first(call.v_pool), q).contiguous()
    for j, value in enumerate(call.values):
        out.addcmul_(local[..., j, None], value)
    return out.to(q.dtype), lse


def backward(
    grad,
    q,
    k,
    v,
    k_pool,
    v_pool,
    scale,
    query_embedding,
    local_bias,
    pool_bias,
    tokens,
    token_bias,
    lse,
    window,
    length,
) -> tuple[Tensor, ...]:
    """Gradients of the eleven tensors, each in the dtype of its tensor, in closed form."""
    call = _Call(q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, window, length)
    grad = grad.to(call.scaled.dtype)
    probabilities = (call.logits - lse[..., None]).exp_()
    local, pooled = call.split(probabilities)

    grad_local = call.by_position([(grad * value).sum(-1) for value in call.values])
    grad_pooled = _tokens_first(_heads_first(grad) @ _heads_first(call.v_pool).mT, q)
    grad_probabilities = torch.cat([grad_local, grad_pooled], -1)
    mean = (probabilities * grad_probabilities).sum(-1, keepdim=True)
    grad_logits = probabilities * (grad_probabilities - mean)
    grad_local_logits, grad_pooled_logits = call.split(grad_logits)

    weights = local + call.positional(tokens, token_bias)
    grad_v, grad_k = torch.zeros_like(v), torch.zeros_like(k)
    if window:
        grad_v = _scatter(call, weights, grad)
        grad_k = normalise_backward(_scatter(call, grad_local_logits, call.scaled), call.unit_k, call.inverse_k)
    grad_v_pool = (_heads_first(pooled).mT @ _heads_first(grad)).transpose(1, 2).unflatten(1, k_pool.shape[1:3])
    grad_kp = (_heads_first(grad_pooled_logits).mT @ _heads_first(call.scaled)).transpose(1, 2).reshape(k_pool.shape)
    grad_k_pool = normalise_backward(grad_kp, call.unit_kp, call.inverse_kp)

    grad_scaled = _tokens_first(_heads_first(grad_pooled_logits) @ _heads_first(call.unit_kp), q).contiguous()
    for j, key in enumerate(call.keys):
        grad_scaled.addcmul_(grad_local_logits[..., j, None], key)
    grad_embedded = grad_scaled * call.factor
    grad_unit_q = grad_embedded + torch.einsum("byxhj,hdj->byxhd", grad_local, tokens.to(grad.dtype))
    grad_factor = (grad_scaled * call.embedded).sum((0, -1))  # (H, W, h)
    log_n = log_length(call.mask, length, grad.dtype)[..., 0]

    gradients = (
        normalise_backward(grad_unit_q, call.unit_q, call.inverse_q),
        grad_k,
        grad_v,
        grad_k_pool,
        grad_v_pool,
        (grad_factor * log_n).sum((0, 1)),
        grad_embedded.sum((0, 1, 2)),
        grad_local_logits.sum((0, 1, 2)),
        grad_pooled_logits.sum(0).permute(2, 0, 1, 3).reshape(pool_bias.shape),
        torch.einsum("byxhd,byxhj->hdj", call.unit_q, grad_local),
        grad_local.sum((0, 1, 2)),
    )
    inputs = (q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    return arrange_gradients(gradients, inputs)


def _scatter(call: _Call, weights: Tensor, x: Tensor) -> Tensor:
    """Sum weights_j * x over window positions, each added at the position that it was read from."""
    radius = call.window // 2
    height, width = call.shape
    padded = _pad(torch.zeros_like(x), radius)
    for j, view in enumerate(_views(padded, height, width, call.window)):
        view.addcmul_(weights[..., j, None], x)
    return padded[:, radius : radius + height, radius : radius + width]


def table_forward(*call) -> tuple[Tensor, Tensor]:
    """``forward`` with a table, and its sizes [H, W, Hp, Wp], or [] for those of the call, as the last argument."""
    inputs, *rest, sizes = call[: len(TENSORS)], *call[len(TENSORS) :]
    return forward(*_expanded(inputs, sizes), *rest)


def table_backward(grad: Tensor, *call) -> tuple[Tensor, ...]:
    """``backward`` with a table, and its sizes [H, W, Hp, Wp], or [] for those of the call, as the last argument."""
    inputs, *rest, sizes = call[: len(TENSORS)], *call[len(TENSORS) :]
    gradients = list(backward(grad, *_expanded(inputs, sizes), *rest))
    counts = inputs[POOL_BIAS].shape[1:]
    gradients[POOL_BIAS] = dense_bias_backward(gradients[POOL_BIAS], counts, sizes, *_sizes(inputs))
    return arrange_gradients(gradients, inputs, TABLE_TENSORS)


def _expanded(inputs: tuple[Tensor, ...], sizes: list[int]) -> tuple[Tensor, ...]:
    """The eleven tensors with a dense position bias."""
    bias = dense_bias(inputs[POOL_BIAS], sizes, *_sizes(inputs))
    return (*inputs[:POOL_BIAS], bias, *inputs[POOL_BIAS + 1 :])


def _sizes(inputs: tuple[Tensor, ...]) -> tuple[Size, Size]:
    """The sizes of the map and of the pooled map."""
    q, k_pool = inputs[0], inputs[3]
    return (q.shape[1], q.shape[2]), (k_pool.shape[1], k_pool.shape[2])
