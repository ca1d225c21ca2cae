"""GELU and pooling from PyTorch's operators, for exported programs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..standard import average_pool


def gelu_pool_standard(x: Tensor, height: int, width: int) -> Tensor:
    """See ``foveal.ops.gelu_pool``."""
    return average_pool(F.gelu(x.permute(0, 3, 1, 2)), (height, width)).permute(0, 2, 3, 1)
