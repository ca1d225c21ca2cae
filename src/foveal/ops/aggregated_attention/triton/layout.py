"""How a call is laid out for the kernels: sizes, tiles, strides, and every argument by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...triton import power_of_two, programs_wanted, rows_side_by_side, shared_alignment
from .position_bias import DenseBias, TableBias

QUERY_BLOCK = 64  # queries of a tile in the kernels of pooled keys, and of all tiles without a window
_LONGEST_COLUMN = 8  # tiles per program: enough to amortise loading the pooled keys once per program
_PROGRAMS_PER_PROCESSOR = 32  # before programs get longer


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
        """Return the shape of a call. Without a window rows mean nothing, and the map is laid out as one row."""
        batch, height, width, heads, dim = q.shape
        if window == 0:
            height, width = 1, height * width
        return cls(batch, height, width, heads, dim, k_pool.shape[1] * k_pool.shape[2], window)

    @property
    def dim_pad(self) -> int:
        """The head dimension padded for matrix units and Triton."""
        return power_of_two(self.dim, 16)

    @property
    def run(self) -> int:
        """Pixels per tile: 16 is the minimum of matrix units; twice the window's width keeps half of them useful."""
        return power_of_two(2 * (self.window - 1), 16) if self.window else QUERY_BLOCK

    @property
    def strips(self) -> int:
        """Tiles side by side on an image row."""
        return -(-self.width // (self.run - max(self.window - 1, 0)))

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
        and need more, as do the larger tiles without a window."""
        return 4 if element_size == 4 or self.window == 0 else 1 if self.dim_pad <= 64 else 2


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
        maps: queries, keys, ... (B, H, W, h, d) by the kernels' names, in a layout that kernels can walk; without a
            window (B, 1, H * W, h, d), and the keys of the window, which no kernel reads, are queries.
        parameters: by the kernels' names, contiguous.
    """

    shape: Shape
    maps: dict[str, Tensor]
    parameters: dict[str, Tensor]
    bias: DenseBias | TableBias
    length: int

    @classmethod
    def of(
        cls, inputs: Sequence[Tensor], window: int, length: int, sizes: Sequence[int] | None, **more: Tensor
    ) -> Call:
        """Lay out the operator's inputs, and ``more`` maps of the same shape as the queries.

        ``sizes`` are those of a table, or None for a dense position bias.
        """
        q, k, v, k_pool, v_pool, scale, embedding, local_bias, bias, tokens, token_bias = inputs
        maps = dict(q=q, k=k, v=v, **more)
        if window == 0:
            maps = {name: (q if name in ("k", "v") else x).flatten(1, 2)[:, None] for name, x in maps.items()}
        maps |= dict(kp=k_pool, vp=v_pool)
        map_size, pool_size = ((x.shape[1], x.shape[2]) for x in (q, k_pool))
        parameters = dict(scale=scale, embedding=embedding, local_bias=local_bias, tokens=tokens, token_bias=token_bias)
        return cls(
            Shape.of(q, k_pool, window),
            {name: rows_side_by_side(x) for name, x in maps.items()},
            {name: x.contiguous() for name, x in parameters.items()},
            DenseBias(bias) if sizes is None else TableBias(bias, sizes, map_size, pool_size),
            length,
        )

    @property
    def device(self) -> torch.device:
        """Where the kernels run."""
        return self.maps["q"].device

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
        pointers = {f"{name}_ptr": x for name, x in (self.maps | self.parameters).items()}
        sizes = dict(
            batches=s.batch, heads=s.heads, height=s.height, width=s.width, pooled=s.pooled, length=self.length,
            strips=s.strips, blocks=self.blocks, rows=self.rows,
        )  # fmt: skip
        return {**pointers, **strides, **sizes, **self.bias.arguments, **s.constants(), "ALIGN": align}

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
        return self.maps["q"].new_empty(self.shares, *shape, dtype=torch.float32)
