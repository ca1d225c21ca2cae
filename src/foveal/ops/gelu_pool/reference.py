"""GELU and pooling in plain PyTorch, differentiable as often as wanted."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gelu_pool_reference(x: Tensor, height: int, width: int) -> Tensor:
    """See `foveal.ops.gelu_pool`."""
    return F.adaptive_avg_pool2d(F.gelu(x).permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
