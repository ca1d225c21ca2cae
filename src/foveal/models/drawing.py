"""Drawing new weights."""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_ as draw_in_dtype
from torch import Tensor


@torch.no_grad()
def trunc_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill a tensor of any floating dtype from a normal distribution around 0, cut off at -2 and 2; returns it.

    Timm inverts the distribution in the tensor's own dtype. In half precision one uniform number in some hundreds is
    rounded to -1 there, whose weight would be -2: a hundred times the spread of the others.
    """
    if tensor.is_meta:  # no weights to draw, for which PyTorch takes milliseconds a tensor
        return tensor
    drawn = tensor if tensor.dtype.itemsize >= 4 else torch.empty_like(tensor, dtype=torch.float32)
    draw_in_dtype(drawn, std=std)
    return tensor if drawn is tensor else tensor.copy_(drawn)
