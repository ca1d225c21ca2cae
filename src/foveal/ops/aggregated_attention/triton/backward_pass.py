"""Backward of aggregated attention on a GPU: four kernels that gather, and sums of their shares. No atomics, so equal
calls give equal bits.

`query_gradients` comes first, since the others need its delta. Only lse is kept from the forward pass;
probabilities are computed again, which costs less time than reading them would.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...numerics import normalise, normalise_backward
from ...triton.support import programs_wanted
from .key_gradients import key_gradients_kernel
from .launch import Shape, activations, bias_order, strides
from .pool_gradients import bias_gradients_kernel, pool_gradients_kernel
from .query_gradients import query_gradients_kernel

_POOL_PROGRAMS_A_PROCESSOR = 8
_QUERY_BLOCK = 64


class _Call:
    """The laid out tensors of one call, and what its kernels are launched with."""

    def __init__(self, grad, q, k, v, k_pool, v_pool, parameters, pool_bias, lse, window, length):
        self.shape = Shape.of(q, k_pool, window)
        (self.grad, self.q, self.k, self.v, self.k_pool, self.v_pool), self.align = activations(
            (grad, q, k, v, k_pool, v_pool)
        )
        self.scale, self.embedding, self.local_bias, self.tokens, self.token_bias = parameters
        self.pool_bias, self.lse, self.length = pool_bias, lse, length
        self.delta = torch.empty_like(lse)
        self.rows = self.shape.rows(q.device)
        self.blocks = -(-self.shape.height // self.rows)
        self.shares = self.shape.batch * self.blocks * self.shape.strips

    def strides(self, *tensors: Tensor) -> tuple[int, ...]:
        """Of all of them, in the kernels' order and unit."""
        return tuple(s for t in tensors for s in strides(t, self.align))

    def share(self, *shape: int) -> Tensor:
        """Memory for what every program adds to the gradient of a parameter of this shape."""
        return self.lse.new_empty(self.shares, *shape)

    def query_gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients of q, scale, query_embedding, tokens and token_bias; fills delta."""
        s = self.shape
        area = s.window**2
        grad_q = self.q.new_empty(s.map_shape)
        scale, embedding = self.share(s.heads), self.share(s.heads, s.dim)
        tokens, token_bias = self.share(s.heads, s.dim, area), self.share(s.heads, area)
        query_gradients_kernel[(self.shares * s.heads,)](
            self.grad, self.q, self.k, self.v, self.k_pool, self.v_pool, self.scale, self.embedding, self.local_bias,
            self.pool_bias, self.tokens, self.lse, self.delta, grad_q, scale, embedding, tokens, token_bias,
            *self.strides(self.grad, self.q, self.k, self.v, self.k_pool, self.v_pool), *self.pool_bias.stride(),
            s.heads, s.height, s.width, s.pooled, self.length, s.strips, self.blocks, self.rows,
            ALIGN=self.align, BIAS_ORDER=bias_order(self.pool_bias), **s.window_constants(self.q.element_size()),
            **s.pool_constants(),
        )  # fmt: skip
        return grad_q, scale.sum(0), embedding.sum(0), tokens.sum(0), token_bias.sum(0)

    def key_gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of k, v and local_bias."""
        s = self.shape
        grad_k, grad_v = self.q.new_empty(s.map_shape), self.q.new_empty(s.map_shape)
        local_bias = self.share(s.heads, s.window**2)
        key_gradients_kernel[(self.shares * s.heads,)](
            self.grad, self.q, self.k, self.v, self.scale, self.embedding, self.local_bias, self.tokens,
            self.token_bias, self.lse, self.delta, grad_k, grad_v, local_bias,
            *self.strides(self.grad, self.q, self.k, self.v),
            s.heads, s.height, s.width, self.length, s.strips, self.blocks, self.rows,
            ALIGN=self.align, **s.window_constants(self.q.element_size()), **s.key_constants(),
        )  # fmt: skip
        return grad_k, grad_v, local_bias.sum(0)

    def _pool_launch(self, blocks: int, share: int) -> tuple[tuple, dict]:
        s = self.shape
        sizes = (
            *self.strides(self.grad, self.q, self.k_pool, self.v_pool), *self.pool_bias.stride(),
            s.batch, s.heads, s.height, s.width, s.pooled, self.length, s.pool_blocks, blocks, share,
        )  # fmt: skip
        constants = dict(
            ALIGN=self.align, BIAS_ORDER=bias_order(self.pool_bias), DIM=s.dim, DIM_PAD=s.dim_pad,
            RADIUS=s.window // 2, POOL_BLOCK=s.pool_block, QUERY_BLOCK=_QUERY_BLOCK, num_warps=4, num_stages=1,
        )  # fmt: skip
        return sizes, constants

    def _pool_inputs(self) -> tuple[Tensor, ...]:
        return (
            self.grad, self.q, self.k_pool, self.v_pool, self.scale, self.embedding, self.pool_bias, self.lse,
            self.delta,
        )  # fmt: skip

    def pool_gradients(self) -> tuple[Tensor, Tensor]:
        """Gradients of k_pool and v_pool, in float32."""
        s = self.shape
        programs = s.batch * s.heads * s.pool_blocks
        tiles = -(-s.height * s.width // _QUERY_BLOCK)
        blocks = min(tiles, -(-programs_wanted(self.q.device, _POOL_PROGRAMS_A_PROCESSOR) // programs))
        share = -(-tiles // blocks) * _QUERY_BLOCK
        blocks = -(-s.height * s.width // share)
        keys, values = (self.lse.new_empty(blocks, *self.k_pool.shape) for _ in range(2))
        sizes, constants = self._pool_launch(blocks, share)
        pool_gradients_kernel[(programs * blocks,)](*self._pool_inputs(), keys, values, *sizes, **constants)
        return normalise_backward(keys.sum(0), *normalise(self.k_pool.float())), values.sum(0)

    def bias_gradient(self) -> Tensor:
        """Gradient of pool_bias, in float32."""
        s = self.shape
        blocks = -(-s.height * s.width // _QUERY_BLOCK)
        programs = s.heads * s.pool_blocks * blocks
        parts = min(s.batch, -(-programs_wanted(self.q.device, _POOL_PROGRAMS_A_PROCESSOR) // programs))
        share = -(-s.batch // parts)
        parts = -(-s.batch // share)
        grad = self.lse.new_empty(parts, *self.pool_bias.shape)
        sizes, constants = self._pool_launch(blocks, share)
        bias_gradients_kernel[(programs * parts,)](*self._pool_inputs(), grad, *sizes, **constants)
        return grad.sum(0)


def backward(
    grad, q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, lse, window,
    length,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of the eleven tensors, each in the dtype of its tensor."""
    inputs = (q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    if q.numel() == 0:
        return tuple(t.new_zeros(t.shape) for t in inputs)
    parameters = [t.contiguous() for t in (scale, query_embedding, local_bias, tokens, token_bias)]
    call = _Call(grad, q, k, v, k_pool, v_pool, parameters, pool_bias, lse.contiguous(), window, length)
    grad_q, grad_scale, grad_embedding, grad_tokens, grad_token_bias = call.query_gradients()
    grad_k, grad_v, grad_local_bias = call.key_gradients()
    gradients = (
        grad_q, grad_k, grad_v, *call.pool_gradients(),
        grad_scale, grad_embedding, grad_local_bias, call.bias_gradient(), grad_tokens, grad_token_bias,
    )  # fmt: skip
    return tuple(g.to(t.dtype).contiguous() for g, t in zip(gradients, inputs, strict=True))
