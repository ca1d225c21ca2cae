"""Aggregated attention in Triton, for NVIDIA GPUs: how a call is laid out for its kernels, and their launches.

The backward pass is four kernels that gather, and sums of their shares: no atomics, so equal calls give equal bits.
``query_gradients`` comes first, since the others need its delta. Only the log-sum-exp is saved by the forward pass;
probabilities are recomputed, which takes less time than reading them would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...numerics import normalise, normalise_backward
from ...triton import power_of_two, programs_wanted, rows_side_by_side, shared_alignment, unsupported_by_triton
from .forward_pass import forward_kernel
from .key_gradients import key_gradients_kernel
from .pool_gradients import bias_gradients_kernel, pool_gradients_kernel
from .query_gradients import query_gradients_kernel
from .trial import compiled_for as compiled_for
from .trial import trials as trials

WIDEST_HEAD, LARGEST_WINDOW = 128, 15
QUERY_BLOCK = 64  # queries of a tile in the kernels of pooled keys
_LONGEST_COLUMN = 8  # tiles per program: enough to amortise loading the pooled keys once per program
_PROGRAMS_PER_PROCESSOR, _POOL_PROGRAMS_PER_PROCESSOR = 32, 8  # before programs get longer


def unsupported(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length,
    dropout_p=0.0, table_sizes=None,
) -> str | None:  # fmt: skip
    """Why the Triton kernels cannot take this call, or None."""
    if dropout_p > 0:
        return "attention dropout runs only on the reference"
    if q.shape[-1] > WIDEST_HEAD:
        return f"heads wider than {WIDEST_HEAD} do not fit a tile, got {q.shape[-1]}"
    if window == 0:
        return "attention without a window has no Triton kernel"
    if window > LARGEST_WINDOW:
        return f"windows above {LARGEST_WINDOW} do not fit a tile, got {window}"
    if k_pool.shape[1] * k_pool.shape[2] == 0:
        return "there is no pooled key"
    parameters = (scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    return unsupported_by_triton((q, k, v, k_pool, v_pool), parameters)


@dataclass(frozen=True)
class Shape:
    """Sizes of a call and the tiles that follow from them."""

    batch: int
    height: int
    width: int
    heads: int
    dim: int
    pooled: int
    window: int

    @classmethod
    def of(cls, q: Tensor, k_pool: Tensor, window: int) -> Shape:
        """Return the shape of a call."""
        batch, height, width, heads, dim = q.shape
        return cls(batch, height, width, heads, dim, k_pool.shape[1] * k_pool.shape[2], window)

    @property
    def dim_pad(self) -> int:
        """The head dimension padded for matrix units and Triton."""
        return power_of_two(self.dim, 16)

    @property
    def run(self) -> int:
        """Pixels per tile: 16 is the minimum of matrix units; twice the window's width keeps half of them useful."""
        return power_of_two(2 * (self.window - 1), 16)

    @property
    def strips(self) -> int:
        """Tiles side by side on an image row."""
        return -(-self.width // (self.run - self.window + 1))

    @property
    def pool_block(self) -> int:
        """Pooled keys per tile: P = 49 fits one; several tiles and wide heads leave fewer registers."""
        return min(power_of_two(self.pooled, 16), 64 if self.dim_pad <= 32 and self.pooled <= 64 else 32)

    @property
    def pool_blocks(self) -> int:
        """Tiles that the pooled keys take."""
        return -(-self.pooled // self.pool_block)

    def rows(self, device: torch.device) -> int:
        """Image rows per program: few if there would otherwise be too few programs."""
        tiles = self.batch * self.heads * self.strips * self.height
        share = tiles // programs_wanted(device, _PROGRAMS_PER_PROCESSOR)
        return max(1, min(share, _LONGEST_COLUMN, self.height))

    def constants(self) -> dict[str, Any]:
        """Return what kernels are compiled for: nothing that changes with the image or the batch."""
        return dict(
            DIM=self.dim,
            DIM_PAD=self.dim_pad,
            WINDOW=self.window,
            RADIUS=self.window // 2,
            AREA_PAD=power_of_two(self.window**2, 16),
            RUN=self.run,
            POOL_BLOCK=self.pool_block,
            ONE_POOL_BLOCK=self.pooled <= self.pool_block,
            QUERY_BLOCK=QUERY_BLOCK,
            UNROLL=self.window if self.window <= 3 else 1,
            ROLL=self.window <= 3,  # the queries of wider windows take more registers than there are
        )

    def warps(self, element_size: int) -> int:
        """Warps of the kernels that walk down strips. One does without barriers; products of float32 run on all lanes
        and need more."""
        return 4 if element_size == 4 else 1 if self.dim_pad <= 64 else 2


def bias_order(pool_bias: Tensor) -> str:
    """Return which axis of the (h, N, P) position bias is contiguous in memory: loads along it are wide."""
    if pool_bias.stride(2) == 1:
        return "keys"
    return "queries" if pool_bias.stride(1) == 1 else "neither"


def map_strides(name: str, x: Tensor, align: int) -> dict[str, int]:
    """Strides of a (B, H, W, h, d) tensor between samples, pixels and heads, in units of ``align`` elements."""
    pixel = x.stride(2) if x.shape[2] > 1 else x.stride(1)
    strides = dict(batch=x.stride(0), pixel=pixel, head=x.stride(3))
    return {f"{name}_{step}": stride // align for step, stride in strides.items()}


@dataclass(frozen=True)
class Call:
    """One call laid out for the kernels: every argument under the name that it has in their signatures.

    A kernel is launched with those that it takes, by name. The signatures themselves stay flat: Triton compiles numbers
    inside a tuple argument into the kernel if they are 1 or multiples of 16 (true of 3.6 and 3.9), and
    ``do_not_specialize`` does not prevent it, so that a new image size would compile anew.

    Args:
        maps: queries, keys, ... (B, H, W, h, d) by the kernels' names, in a layout that kernels can walk.
        parameters: by the kernels' names, contiguous.
        pool_bias: (h, N, P), any strides.
    """

    shape: Shape
    maps: dict[str, Tensor]
    parameters: dict[str, Tensor]
    pool_bias: Tensor
    length: int

    @classmethod
    def of(cls, inputs: Sequence[Tensor], window: int, length: int, **more: Tensor) -> Call:
        """Lay out the operator's inputs, and ``more`` maps of the same shape as the queries."""
        q, k, v, k_pool, v_pool, scale, embedding, local_bias, pool_bias, tokens, token_bias = inputs
        maps = dict(q=q, k=k, v=v, kp=k_pool, vp=v_pool, **more)
        parameters = dict(scale=scale, embedding=embedding, local_bias=local_bias, tokens=tokens, token_bias=token_bias)
        return cls(
            Shape.of(q, k_pool, window),
            {name: rows_side_by_side(x) for name, x in maps.items()},
            {name: x.contiguous() for name, x in parameters.items()},
            pool_bias,
            length,
        )

    @property
    def device(self) -> torch.device:
        """Where the kernels run."""
        return self.pool_bias.device

    @cached_property
    def rows(self) -> int:
        """Image rows per program."""
        return self.shape.rows(self.device)

    @property
    def blocks(self) -> int:
        """Blocks of rows, each of which a program walks down."""
        return -(-self.shape.height // self.rows)

    @property
    def shares(self) -> int:
        """Programs per head, each of which adds its share to the gradients of parameters."""
        return self.shape.batch * self.blocks * self.shape.strips

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Everything that kernels may take: pointers, strides, sizes and constants."""
        s, align = self.shape, shared_alignment(self.maps.values())
        strides: dict[str, int] = {}
        for name, x in self.maps.items():
            strides |= map_strides(name, x, align)
        strides |= dict(zip(("bias_head", "bias_query", "bias_key"), self.pool_bias.stride(), strict=True))
        pointers = {f"{name}_ptr": x for name, x in (self.maps | self.parameters).items()}
        sizes = dict(
            batches=s.batch, heads=s.heads, height=s.height, width=s.width, pooled=s.pooled, length=self.length,
            strips=s.strips, blocks=self.blocks, rows=self.rows,
        )  # fmt: skip
        constants = dict(ALIGN=align, BIAS_ORDER=bias_order(self.pool_bias), **s.constants())
        return {**pointers, "pool_bias_ptr": self.pool_bias, **strides, **sizes, **constants}

    def launch(self, kernel: Any, programs: int, own: dict[str, Any], num_warps: int | None = None) -> None:
        """Run a kernel with the arguments of this call and its ``own``, which take precedence."""
        known = self.arguments | own
        taken = {name: known[name] for name in kernel.arg_names}
        kernel[(programs,)](
            **taken, num_warps=num_warps or self.shape.warps(self.maps["q"].element_size()), num_stages=1
        )

    def empty_map(self) -> Tensor:
        """Memory for the gradient of queries, keys or values, contiguous."""
        return self.maps["q"].new_empty(self.maps["q"].shape)

    def empty_shares(self, *shape: int) -> Tensor:
        """Memory for what every program adds to the gradient of a parameter of this shape."""
        return self.pool_bias.new_empty(self.shares, *shape, dtype=torch.float32)


def forward(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length
) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) in q's dtype, and the log-sum-exp (B, H, W, h) in float32."""
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:-1], dtype=torch.float32)
    if q.numel() == 0:
        return out, lse
    inputs = (q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    call = Call.of(inputs, window, length)
    call.launch(forward_kernel, call.shares * call.shape.heads, dict(out_ptr=out, lse_ptr=lse))
    return out, lse


def backward(
    grad, q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, lse, window,
    length,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of the eleven tensors, each in the dtype of its tensor."""
    inputs = (q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    if q.numel() == 0:
        return tuple(t.new_zeros(t.shape) for t in inputs)
    call = Call.of(inputs, window, length, g=grad)
    saved = dict(lse_ptr=lse.contiguous(), delta_ptr=torch.empty_like(lse, memory_format=torch.contiguous_format))
    grad_q, grad_scale, grad_embedding, grad_tokens, grad_token_bias = _query_gradients(call, saved)
    grad_k, grad_v, grad_local_bias = _key_gradients(call, saved)
    gradients = (
        grad_q, grad_k, grad_v, *_pool_gradients(call, saved),
        grad_scale, grad_embedding, grad_local_bias, _bias_gradient(call, saved), grad_tokens, grad_token_bias,
    )  # fmt: skip
    return tuple(g.to(t.dtype).contiguous() for g, t in zip(gradients, inputs, strict=True))


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
    """Gradient of pool_bias, in float32."""
    s = call.shape
    blocks = -(-s.height * s.width // QUERY_BLOCK)
    programs = s.heads * s.pool_blocks * blocks
    parts = min(s.batch, -(-programs_wanted(call.device, _POOL_PROGRAMS_PER_PROCESSOR) // programs))
    share = -(-s.batch // parts)
    parts = -(-s.batch // share)
    grad = call.pool_bias.new_empty(parts, *call.pool_bias.shape, dtype=torch.float32)
    own = dict(grad_bias_ptr=grad, strips=s.pool_blocks, blocks=blocks, share=share)
    call.launch(bias_gradients_kernel, programs * parts, own | saved, num_warps=4)
    return grad.sum(0)
