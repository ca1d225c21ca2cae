"""Log-spaced continuous position bias: a small network of the distance between a query and a (pooled) key.

TransNeXt paper, section 3.1.3. The bias of a query and a key depends on their offset only, so the network runs once for
every distinct offset. The operator reads biases from this table, or from the dense bias (query, key) expanded from it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops.aggregated_attention.offsets import axis_offsets, expand_table, of_sizes, offset_count
from foveal.ops.numerics import without_autocast
from foveal.types import Size

_HIDDEN_BUDGET = 1 << 24  # elements of the hidden layer that are held at a time when no gradient is needed
_SPAN = 8  # offsets are scaled so that the pre-training map spans -8..8, and their logarithm to base 8 -1..1


def distinct_offsets(size: Size, pool: Size) -> int:
    """Return the number of distinct offsets between the queries of a map and the cells of its pooled map."""
    rows, columns = map(offset_count, size, pool)
    return rows * columns


@of_sizes
def _log_spaced_axis(size: int, pool: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(D,): ``log_spaced`` of the offsets of one axis, computed in float64."""
    return log_spaced(axis_offsets(size, pool, device), side).to(dtype)


def log_spaced(offsets: Tensor, side: int) -> Tensor:
    """Return sign(x) log2(|x| + 1) / log2(8), where x is the offset over the pre-training side, scaled to -8..8."""
    x = offsets * (_SPAN / max(side - 1, 1))
    return x.sign() * (x.abs() + 1).log2() / math.log2(_SPAN)


def position_bias_table(fc1: nn.Linear, fc2: nn.Linear, size: Size, pool: Size, sides: Size) -> Tensor:
    """Return the bias of every offset between a query and a pooled key, extrapolated to this size.

    Args:
        fc1, fc2: the network, 2 -> hidden -> heads with a ReLU between.
        size: (H, W) of the query map.
        pool: (Hp, Wp) of the key map; equal to ``size`` for attention between all tokens.
        sides: (height, width) of this stage's map at the pre-training size, which sets the scale of the offsets.

    Returns:
        (heads, Dr, Dc) for ``foveal.ops.aggregated_attention``, in the dtype of the weights; computed in float32 at
        least, outside autocast.
    """
    device, dtype = fc1.weight.device, _precise(fc1)
    rows, columns = (_log_spaced_axis(*axis, dtype, device) for axis in zip(size, pool, sides, strict=True))
    return _table(fc1, fc2, rows, columns).unflatten(1, (rows.shape[0], columns.shape[0]))


def window_position_bias(fc1: nn.Linear, fc2: nn.Linear, window: int, sides: Size) -> Tensor:
    """Return the bias of every offset in a window, (heads, window * window), by the same network (table 6)."""
    offsets = window // 2 - torch.arange(window, device=fc1.weight.device, dtype=torch.float64)  # query - key
    rows, columns = (log_spaced(offsets, side).to(_precise(fc1)) for side in sides)
    return _table(fc1, fc2, rows, columns)


def _precise(fc1: nn.Linear) -> torch.dtype:
    return torch.promote_types(fc1.weight.dtype, torch.float32)


def _table(fc1: nn.Linear, fc2: nn.Linear, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the bias of every pair of log-spaced offsets, (heads, rows * columns), in the dtype of the weights."""
    with without_autocast(fc1.weight.device):
        weights = [p.to(_precise(fc1)) for p in (fc1.weight, fc1.bias, fc2.weight, fc2.bias)]
        return _offset_table(rows, columns, *weights).to(fc1.weight.dtype)


def continuous_position_bias(fc1: nn.Linear, fc2: nn.Linear, size: Size, pool: Size, sides: Size) -> Tensor:
    """Return the bias of every query and pooled key, (heads, H*W, Hp*Wp), key by key in memory.

    It is ``position_bias_table``, expanded.
    """
    return expand_table(position_bias_table(fc1, fc2, size, pool, sides), size, pool).to(fc1.weight.dtype)


def _offset_table(
    rows: Tensor, columns: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """Run the network on every pair of a row offset and a column offset; its first layer is a sum of one term per axis.

    Returns:
        (h, Dr * Dc).
    """
    by_row = torch.addcmul(bias1, rows[:, None], weight1[:, 0])
    by_column = columns[:, None] * weight1[:, 1]

    def network(part: Tensor) -> Tensor:
        return torch.addmm(bias2[:, None], weight2, F.relu(part[:, None] + by_column).flatten(0, 1).mT)

    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return network(by_row)
    chunks = math.ceil(by_row.shape[0] * by_column.numel() / _HIDDEN_BUDGET)
    return torch.cat([network(part) for part in by_row.chunk(chunks)], 1)
