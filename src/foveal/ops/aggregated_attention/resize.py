"""A position bias of one map, resized to another: bilinear and separable, pixels at their centres (math.md, "Sizes and
modes"). The compiled and Triton kernels do this while they read the table; here is the dense form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from .offsets import expand_table, pairs_of


def linear_taps(size: int, reference: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return what linear interpolation of an axis reads: the first of two neighbours (size,) in int64, and the share of
    the second (size,) in float64. Beyond the last one the second neighbour is the first."""
    centres = ((torch.arange(size, dtype=torch.float64, device=device) + 0.5) * (reference / size) - 0.5).clamp(min=0)
    first = centres.long().clamp(max=reference - 1)
    return first, centres - first


def resize_bias(bias: Tensor, size: Size, pool: Size, new_size: Size, new_pool: Size) -> Tensor:
    """Resize a bias bilinearly, first over the key axes, then over the query axes.

    Args:
        bias: (h, H*W, Hp*Wp) at ``size`` and ``pool``.

    Returns:
        (h, H'*W', Hp'*Wp') at ``new_size`` and ``new_pool``, in the dtype of ``bias``; key by key in memory.
    """
    heads = bias.shape[0]
    dtype = torch.promote_types(bias.dtype, torch.float32)
    table = bias.reshape(heads, size[0] * size[1], *pool).to(dtype)
    table = F.interpolate(table, size=new_pool, mode="bilinear", align_corners=False)
    table = table.flatten(2).transpose(1, 2).reshape(heads, new_pool[0] * new_pool[1], *size)
    table = F.interpolate(table, size=new_size, mode="bilinear", align_corners=False)
    return table.flatten(2).to(bias.dtype).mT


def dense_bias(table: Tensor, sizes: list[int], size: Size, pool: Size) -> Tensor:
    """Return the bias (h, H*W, P) of every query and pooled key from a table; with ``sizes``, from one of another map
    and pooled map [H, W, Hp, Wp]. Differentiable; for a half type the result is float32."""
    if not sizes:
        return expand_table(table, size, pool)
    reference = (sizes[0], sizes[1]), (sizes[2], sizes[3])
    return resize_bias(expand_table(table, *reference), *reference, size, pool)


def dense_bias_backward(grad: Tensor, counts: Size, sizes: list[int], size: Size, pool: Size) -> Tensor:
    """Return the gradient of a table (h, *counts) from that of its ``dense_bias``, (h, H*W, P)."""
    height, width, rows, columns = sizes or (*size, *pool)
    by_row = _axis_matrix(size[0], pool[0], height, rows, counts[0], grad)
    by_column = _axis_matrix(size[1], pool[1], width, columns, counts[1], grad)
    pairs = grad.mT.unflatten(2, size).unflatten(1, pool).transpose(2, 3)
    return by_row @ pairs.flatten(3, 4).flatten(1, 2) @ by_column.mT


def _axis_matrix(size: int, pool: int, reference: int, reference_pool: int, count: int, like: Tensor) -> Tensor:
    """(count, pool * size): the share of every offset of one axis in the bias of every cell and pixel."""
    pairs = pairs_of(reference, reference_pool, count, like.dtype, like.device).unflatten(
        1, (reference_pool, reference)
    )
    cells, pixels = _interpolation(pool, reference_pool, like), _interpolation(size, reference, like)
    return (pixels @ (cells @ pairs).mT).mT.flatten(1)


def _interpolation(size: int, reference: int, like: Tensor) -> Tensor:
    """(size, reference): the share of every number of an axis in every interpolated one."""
    first, share = (t[:, None] for t in linear_taps(size, reference, like.device))
    number = torch.arange(reference, device=like.device)
    second = (first + 1).clamp(max=reference - 1)
    return ((number == first) * (1 - share) + (number == second) * share).to(like.dtype)
