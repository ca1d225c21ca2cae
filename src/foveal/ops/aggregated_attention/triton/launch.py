"""How a call of aggregated attention is laid out for its Triton kernels: strides, tile sizes, grids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...triton.support import power_of_two, programs_wanted, rows_side_by_side, shared_alignment, unsupported_by_triton

WIDEST_HEAD, LARGEST_WINDOW = 128, 15
_LONGEST_COLUMN = 8  # tiles of a program: enough that the pooled keys, loaded once a program, cost little
_PROGRAMS_A_PROCESSOR = 32  # before programs get longer

# Numbers that change with the image: kernels are not compiled anew for them.
SIZES = (
    "q_batch", "q_pixel", "q_head", "k_batch", "k_pixel", "k_head", "v_batch", "v_pixel", "v_head",
    "kp_batch", "kp_pixel", "kp_head", "vp_batch", "vp_pixel", "vp_head", "g_batch", "g_pixel", "g_head",
    "bias_head", "bias_query", "bias_key", "batches", "heads", "height", "width", "pooled", "length",
    "strips", "blocks", "rows", "share",
)  # fmt: skip


def unsupported(
    q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias, window, length,
    dropout_p=0.0, has_table=False,
) -> str | None:  # fmt: skip
    """Why the Triton kernels cannot take this call, or None."""
    if dropout_p > 0:
        return "attention dropout runs on the reference alone"
    if q.shape[-1] > WIDEST_HEAD:
        return f"heads wider than {WIDEST_HEAD} do not fit a tile, got {q.shape[-1]}"
    if window > LARGEST_WINDOW:
        return f"windows above {LARGEST_WINDOW} do not fit a tile, got {window}"
    if k_pool.shape[1] * k_pool.shape[2] == 0:
        return "there is no pooled key"
    parameters = (scale, query_embedding, local_bias, pool_bias, tokens, token_bias)
    return unsupported_by_triton((q, k, v, k_pool, v_pool), parameters)


def strides(x: Tensor, align: int) -> tuple[int, int, int]:
    """Strides of a (B, H, W, h, d) tensor from sample to sample, pixel to pixel and head to head, in units of `align`
    elements."""
    pixel = x.stride(2) if x.shape[2] > 1 else x.stride(1)
    return x.stride(0) // align, pixel // align, x.stride(3) // align


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
        """The shape of a call."""
        batch, height, width, heads, dim = q.shape
        return cls(batch, height, width, heads, dim, k_pool.shape[1] * k_pool.shape[2], window)

    @property
    def dim_pad(self) -> int:
        """The head dimension as matrix units and Triton want it."""
        return power_of_two(self.dim, 16)

    @property
    def run(self) -> int:
        """Pixels of a tile: 16 is the least that matrix units take, twice the window's width keeps half useful."""
        return power_of_two(2 * (self.window - 1), 16)

    @property
    def strips(self) -> int:
        """Tiles side by side on an image row."""
        return -(-self.width // (self.run - self.window + 1))

    @property
    def pool_block(self) -> int:
        """Pooled keys of a tile: P = 49 fits one; several tiles and wide heads leave fewer registers."""
        return min(power_of_two(self.pooled, 16), 64 if self.dim_pad <= 32 and self.pooled <= 64 else 32)

    def rows(self, device: torch.device) -> int:
        """Image rows that a program walks down: few where there would be too few programs."""
        tiles = self.batch * self.heads * self.strips * self.height
        share = tiles // programs_wanted(device, _PROGRAMS_A_PROCESSOR)
        return max(1, min(share, _LONGEST_COLUMN, self.height))

    @property
    def pool_blocks(self) -> int:
        """Tiles that the pooled keys take."""
        return -(-self.pooled // self.pool_block)

    @property
    def map_shape(self) -> tuple[int, int, int, int, int]:
        """Of queries, keys and values."""
        return self.batch, self.height, self.width, self.heads, self.dim

    def window_constants(self, element_size: int) -> dict[str, Any]:
        """What the kernels that walk down strips are compiled for. One warp does without barriers; products of float32
        run on all lanes and want more of them."""
        return dict(
            DIM=self.dim,
            DIM_PAD=self.dim_pad,
            WINDOW=self.window,
            AREA_PAD=power_of_two(self.window**2, 16),
            RUN=self.run,
            num_warps=4 if element_size == 4 else 1 if self.dim_pad <= 64 else 2,
            num_stages=1,
        )

    def pool_constants(self) -> dict[str, Any]:
        """What those among them are compiled for that meet pooled keys."""
        return dict(
            POOL_BLOCK=self.pool_block,
            ONE_POOL_BLOCK=self.pooled <= self.pool_block,
            UNROLL=self.window if self.window <= 3 else 1,
        )

    def key_constants(self) -> dict[str, Any]:
        """What the kernel of key gradients is compiled for besides."""
        return dict(ROLL=self.window <= 3)  # the queries of wider windows take more registers than there are


def bias_order(pool_bias: Tensor) -> str:
    """Which axis of the (h, N, P) position bias lies side by side in memory: where loads are wide."""
    if pool_bias.stride(2) == 1:
        return "keys"
    return "queries" if pool_bias.stride(1) == 1 else "neither"


def activations(tensors: Iterable[Tensor]) -> tuple[list[Tensor], int]:
    """Activations in a layout that kernels can walk, and their common alignment in elements."""
    laid_out = [rows_side_by_side(t) for t in tensors]
    return laid_out, shared_alignment(laid_out)
