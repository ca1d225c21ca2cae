"""Aggregated attention in Triton, for NVIDIA GPUs: the launches of its kernels.

The backward pass is kernels that gather, and sums of their shares: no atomics, so equal calls give equal bits.
``query_gradients`` comes first, since the others need its delta. Only the log-sum-exp is saved by the forward pass;
probabilities are recomputed, which takes less time than reading them would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...numerics import normalise, normalise_backward
from ...triton import programs_wanted, unsupported_by_triton
from ..schema import TABLE_TENSORS, TENSORS, arrange_gradients
from .forward_pass import forward_kernel
from .key_gradients import key_gradients_kernel
from .layout import QUERY_BLOCK, Call
from .pool_gradients import bias_gradients_kernel, pool_gradients_kernel
from .position_bias import TableBias
from .query_gradients import query_gradients_kernel
from .table_gradients import table_gradient
from .trial import compiled_for as compiled_for
from .trial import trials as trials

WIDEST_HEAD, LARGEST_WINDOW = 128, 15
_POOL_PROGRAMS_PER_PROCESSOR = 8  # before programs get longer


def unsupported(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length,
    dropout_p=0.0, table_sizes=None,
) -> str | None:  # fmt: skip
    """Why the Triton kernels cannot take this call, or None."""
    if dropout_p > 0:
        return "attention dropout runs only on the reference"
    if q.shape[-1] > WIDEST_HEAD:
        return f"heads wider than {WIDEST_HEAD} do not fit a tile, got {q.shape[-1]}"
    if window > LARGEST_WINDOW:
        return f"windows above {LARGEST_WINDOW} do not fit a tile, got {window}"
    if k_pool.shape[1] * k_pool.shape[2] == 0:
        return "there is no pooled key"
    parameters = (scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    return unsupported_by_triton((q, k, v, k_pool, v_pool), parameters)


def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) in q's dtype, and the log-sum-exp (B, H, W, h) in float32.

    ``arguments`` are the eleven tensors, window, length and, if the position bias is a table, its sizes.
    """
    inputs, (window, length, *sizes) = arguments[: len(TENSORS)], arguments[len(TENSORS) :]
    q = inputs[0]
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:-1], dtype=torch.float32)
    if q.numel() == 0:
        return out, lse
    call = Call.of(inputs, window, length, sizes[0] if sizes else None)
    call.launch(forward_kernel, call.shares * call.shape.heads, dict(out_ptr=out, lse_ptr=lse))
    return out, lse


def backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """Gradients of the eleven tensors, each in the dtype of its tensor, from those of ``forward`` and the log-sum-exp
    after them."""
    inputs, (lse, window, length, *sizes) = arguments[: len(TENSORS)], arguments[len(TENSORS) :]
    names = TABLE_TENSORS if sizes else TENSORS
    if inputs[0].numel() == 0:
        return arrange_gradients(map(torch.zeros_like, inputs), inputs, names)
    call = Call.of(inputs, window, length, sizes[0] if sizes else None, g=grad)
    saved = dict(lse_ptr=lse.contiguous(), delta_ptr=torch.empty_like(lse, memory_format=torch.contiguous_format))
    grad_q, grad_scale, grad_embedding, grad_tokens, grad_token_bias = _query_gradients(call, saved)
    grad_k, grad_v, grad_local_bias = _key_gradients(call, saved)
    gradients = (
        grad_q, grad_k, grad_v, *_pool_gradients(call, saved),
        grad_scale, grad_embedding, grad_local_bias, _bias_gradient(call, saved), grad_tokens, grad_token_bias,
    )  # fmt: skip
    shaped = [g.view(t.shape) if t.ndim == 5 else g for g, t in zip(gradients, inputs, strict=True)]
    return arrange_gradients(shaped, inputs, names)


def _query_gradients(call: Call, saved: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, scale, query_embedding, tokens and token_bias; fills delta."""
    s = call.shape
    area, grad_q = s.window**2, call.empty_map()
    shapes = dict(scale=(), embedding=(s.dim,), tokens=(s.dim, area), token_bias=(area,))
    shares = {f"grad_{name}_ptr": call.empty_shares(s.heads, *shape) for name, shape in shapes.items()}
    call.launch(query_gradients_kernel, call.shares * s.heads, {"grad_q_ptr": grad_q, **saved, **shares})
    scale, embedding, tokens, token_bias = (x.sum(0) for x in shares.values())
    return grad_q, scale, embedding, tokens, token_bias


def _key_gradients(call: Call, saved: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of k, v and local_bias."""
    s = call.shape
    if s.window == 0:
        grad_k, grad_v = (call.maps["q"].new_empty(s.batch, 0, s.width, s.heads, s.dim) for _ in range(2))
        return grad_k, grad_v, call.maps["q"].new_empty(s.heads, 0)
    grad_k, grad_v = call.empty_map(), call.empty_map()
    local_bias = call.empty_shares(s.heads, s.window**2)
    own = dict(grad_k_ptr=grad_k, grad_v_ptr=grad_v, grad_local_bias_ptr=local_bias)
    call.launch(key_gradients_kernel, call.shares * s.heads, own | saved)
    return grad_k, grad_v, local_bias.sum(0)


def _pool_gradients(call: Call, saved: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients of k_pool and v_pool, in float32."""
    s, k_pool = call.shape, call.maps["kp"]
    programs = s.batch * s.heads * s.pool_blocks
    tiles = -(-s.height * s.width // QUERY_BLOCK)
    blocks = min(tiles, -(-programs_wanted(call.device, _POOL_PROGRAMS_PER_PROCESSOR) // programs))
    share = -(-tiles // blocks) * QUERY_BLOCK
    blocks = -(-s.height * s.width // share)
    keys, values = (k_pool.new_empty(blocks, *k_pool.shape, dtype=torch.float32) for _ in range(2))
    own = dict(grad_k_ptr=keys, grad_v_ptr=values, strips=s.pool_blocks, blocks=blocks, share=share)
    call.launch(pool_gradients_kernel, programs * blocks, own | saved, num_warps=4)
    return normalise_backward(keys.sum(0), *normalise(k_pool.float())), values.sum(0)


def _bias_gradient(call: Call, saved: dict[str, Tensor]) -> Tensor:
    """Gradient of the dense position bias or of its table, in float32."""

    def of_pairs(first: int, last: int) -> Tensor:
        return _pair_gradients(call, saved, first, last)

    if isinstance(call.bias, TableBias):
        return table_gradient(call.bias, of_pairs)
    return of_pairs(0, call.shape.height * call.shape.width).mT


def _pair_gradients(call: Call, saved: dict[str, Tensor], first: int, last: int) -> Tensor:
    """Gradients of the position bias of every pooled key and the queries from number ``first`` to before ``last``,
    (h, P, last - first) in float32."""
    s = call.shape
    blocks = -(-(last - first) // QUERY_BLOCK)
    programs = s.heads * s.pool_blocks * blocks
    parts = min(s.batch, -(-programs_wanted(call.device, _POOL_PROGRAMS_PER_PROCESSOR) // programs))
    share = -(-s.batch // parts)
    parts = -(-s.batch // share)
    grad = saved["lse_ptr"].new_empty(parts, s.heads, s.pooled, last - first)
    own = dict(grad_bias_ptr=grad, strips=s.pool_blocks, blocks=blocks, share=share, first_query=first, last_query=last)
    call.launch(bias_gradients_kernel, programs * parts, own | saved, num_warps=4)
    return grad.sum(0) if parts > 1 else grad[0]
