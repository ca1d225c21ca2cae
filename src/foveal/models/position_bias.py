"""Log-spaced continuous position bias: a small network of the distance between a query and a (pooled) key.

TransNeXt paper, section 3.1.3. The bias of a query and a key depends on their offset alone, so the network runs once
for every distinct offset and the full (query, key) table is gathered from its results.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.ops.numerics import without_autocast

_HIDDEN_BUDGET = 1 << 24  # elements of the hidden layer that are held at a time when no gradient is needed
_SPAN = 8  # offsets are scaled so that the pre-training map spans -8..8, and their logarithm to base 8 -1..1


def doubled_centres(size: int, pool: int, device: torch.device) -> Tensor:
    """(pool,) int64: twice the mean pixel index of every cell of adaptive average pooling from `size` to `pool`."""
    cell = torch.arange(pool, device=device)
    start = cell * size // pool
    end = ((cell + 1) * size + pool - 1) // pool
    return start + end - 1


def axis_offsets(size: int, pool: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct offsets between `size` pixels and `pool` cell centres along one axis, and where each pair's offset
    stands.

    Returns:
        offsets (D,) float64 in pixels, ascending by one step; pixel (size,) and cell (pool,) int64 such that pixel i
        and cell p have the offset at pixel[i] + cell[p]. Where the pool divides the size all offsets share one
        fraction, so the step is a pixel; otherwise it is half a pixel.
    """
    centres = doubled_centres(size, pool, device)
    side = size // pool if statically_known_true(size % pool == 0) else 0
    step = 2 if side else 1
    first = side - 2 * size + 1 if side else 2 - 2 * size
    count = 2 * size - side if side else 4 * size - 3
    offsets = (first + step * torch.arange(count, device=device)).double() / 2
    return offsets, (2 // step) * torch.arange(size, device=device), (-first - centres) // step


def distinct_offsets(size: tuple[int, int], pool: tuple[int, int]) -> int:
    """How many different offsets the queries of a map and the cells of its pooled map have: what the network is run
    on."""
    rows, columns = (axis_offsets(s, p, torch.device("cpu"))[0].shape[0] for s, p in zip(size, pool, strict=True))
    return rows * columns


def log_spaced(offsets: Tensor, side: int) -> Tensor:
    """sign(x) log2(|x| + 1) / log2(8) with x the offset over the pre-training side, scaled to -8..8."""
    x = offsets * (_SPAN / max(side - 1, 1))
    return x.sign() * (x.abs() + 1).log2() / math.log2(_SPAN)


def continuous_position_bias(
    fc1: nn.Linear, fc2: nn.Linear, size: tuple[int, int], pool: tuple[int, int], sides: tuple[int, int]
) -> Tensor:
    """The bias of every query and pooled key, extrapolated to this size.

    Args:
        fc1, fc2: the network, 2 -> hidden -> heads with a ReLU between.
        size: (H, W) of the query map.
        pool: (Hp, Wp) of the key map; equal to `size` for attention between all tokens.
        sides: (height, width) of this stage's map at the pre-training size, which sets the scale of the offsets.

    Returns:
        (heads, H*W, Hp*Wp) in the dtype of the weights, computed in float32 at least, outside autocast; key by key in
        memory, as the kernels read it.
    """
    device = fc1.weight.device
    dtype = torch.promote_types(fc1.weight.dtype, torch.float32)
    rows, query_row, key_row = axis_offsets(size[0], pool[0], device)
    columns, query_column, key_column = axis_offsets(size[1], pool[1], device)
    with without_autocast(device):
        weights = [p.to(dtype) for p in (fc1.weight, fc1.bias, fc2.weight, fc2.bias)]
        table = _offset_table(log_spaced(rows, sides[0]).to(dtype), log_spaced(columns, sides[1]).to(dtype), *weights)
    stride = columns.shape[0]
    query = (query_row[:, None] * stride + query_column).flatten()
    key = (key_row[:, None] * stride + key_column).flatten()
    return table.to(fc1.weight.dtype)[:, key[:, None] + query].mT


def _offset_table(
    rows: Tensor, columns: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """(h, Dr * Dc): the network at every pair of a row offset and a column offset; its first layer is a sum of one
    term an axis."""
    by_row = rows[:, None] * weight1[:, 0] + bias1
    by_column = columns[:, None] * weight1[:, 1]

    def network(part: Tensor) -> Tensor:
        return weight2 @ F.relu(part[:, None] + by_column).flatten(0, 1).mT + bias2[:, None]

    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return network(by_row)
    chunks = math.ceil(by_row.shape[0] * by_column.numel() / _HIDDEN_BUDGET)
    return torch.cat([network(part) for part in by_row.chunk(chunks)], 1)


def resize_position_bias(
    bias: Tensor,
    size: tuple[int, int],
    pool: tuple[int, int],
    new_size: tuple[int, int],
    new_pool: tuple[int, int],
) -> Tensor:
    """Resize a bias table bilinearly, first over the key axes, then over the query axes (math.md, "Sizes and modes").

    Args:
        bias: (h, H*W, Hp*Wp) at `size` and `pool`.

    Returns:
        (h, H'*W', Hp'*Wp') at `new_size` and `new_pool`, in the dtype of `bias`; key by key in memory.
    """
    heads = bias.shape[0]
    dtype = torch.promote_types(bias.dtype, torch.float32)
    table = bias.reshape(heads, size[0] * size[1], *pool).to(dtype)
    table = F.interpolate(table, size=new_pool, mode="bilinear", align_corners=False)
    table = table.flatten(2).transpose(1, 2).reshape(heads, new_pool[0] * new_pool[1], *size)
    table = F.interpolate(table, size=new_size, mode="bilinear", align_corners=False)
    return table.flatten(2).to(bias.dtype).mT
