"""GELU and pooling in plain PyTorch, differentiable any number of times."""

from __future__ import annotations

from torch import Tensor

from ..numerics import accumulation_dtype, without_autocast
from .torch_ops import gelu_pool_layers


def gelu_pool_reference(x: Tensor, height: int, width: int) -> Tensor:
    """See ``foveal.ops.gelu_pool``; computed in the accumulation dtype."""
    with without_autocast(x.device):
        return gelu_pool_layers(x.to(accumulation_dtype(x.dtype)), height, width).to(x.dtype)
