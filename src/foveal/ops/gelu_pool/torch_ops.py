"""GELU and pooling as PyTorch's two layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gelu_pool_layers(x: Tensor, height: int, width: int) -> Tensor:
    """The pooled map (B, height, width, C), computed in the dtype of x."""
    return F.adaptive_avg_pool2d(F.gelu(x).permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
