"""Aggregated attention as a PyTorch operator: what torch.compile, torch.export and autograd need to know of it.

One operator serves all fused implementations; `backend` names the one that the dispatcher chose, so a traced graph
keeps the choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..numerics import accumulation_dtype, second_derivative_refused, without_autocast
from . import shifted

_forward = {"cpu": shifted.forward}
_backward: dict[str, Any] = {"cpu": shifted.backward}


@torch.library.custom_op("foveal::aggregated_attention", mutates_args=())
def aggregated_attention_op(
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
    backend: str,
) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) and the log-sum-exp (B, H, W, h) of every query."""
    with without_autocast(q.device):
        return _forward[backend](
            q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length
        )


@aggregated_attention_op.register_fake
def _(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length, backend
):
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=accumulation_dtype(q.dtype))


@torch.library.custom_op("foveal::aggregated_attention_backward", mutates_args=())
def aggregated_attention_backward_op(
    grad: Tensor,
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
    lse: Tensor,
    window: int,
    length: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the eleven tensors of the forward operator, in its order."""
    with without_autocast(q.device):
        return _backward[backend](
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
        )


@aggregated_attention_backward_op.register_fake
def _(grad, *args):
    return tuple(t.new_empty(t.shape) for t in args[:11])


def _setup_context(ctx, inputs, output):
    *tensors, window, length, backend = inputs
    _, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(*tensors, lse)
    ctx.constants = (window, length, backend)


def _differentiate(ctx, grad, _):
    gradients = aggregated_attention_backward_op(grad, *ctx.saved_tensors, *ctx.constants)
    return (*gradients, None, None, None)


aggregated_attention_op.register_autograd(_differentiate, setup_context=_setup_context)
aggregated_attention_backward_op.register_autograd(
    second_derivative_refused("aggregated_attention"), setup_context=lambda ctx, inputs, output: None
)
