"""Gated depthwise convolution from PyTorch's operators, for exported programs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..convolution import depthwise_conv


def gated_dwconv_standard(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See ``foveal.ops.gated_dwconv``."""
    return F.gelu(depthwise_conv(g, weight, bias)) * v
