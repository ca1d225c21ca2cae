"""A position bias of one map, resized to another: bilinear and separable, pixels at their centres (math.md, "Sizes and
modes"). The compiled and Triton kernels do this while they read the table; here is the dense form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.types import Size

from .offsets import expand_table


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
