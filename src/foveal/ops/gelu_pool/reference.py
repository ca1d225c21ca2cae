"""GELU and pooling in plain PyTorch, differentiable as often as wanted."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..numerics import accumulation_dtype, without_autocast


def gelu_pool_layers(x: Tensor, height: int, width: int) -> Tensor:
    """PyTorch's two layers, in the dtype of x."""
    return F.adaptive_avg_pool2d(F.gelu(x).permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)


def gelu_pool_reference(x: Tensor, height: int, width: int) -> Tensor:
    """See `foveal.ops.gelu_pool`; computed in the accumulation dtype."""
    with without_autocast(x.device):
        return gelu_pool_layers(x.to(accumulation_dtype(x.dtype)), height, width).to(x.dtype)
