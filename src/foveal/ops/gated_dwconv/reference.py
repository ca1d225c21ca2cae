"""Gated depthwise convolution in plain PyTorch, differentiable any number of times.

    y = GELU(DWConv(g) + bias) * v            exact GELU, x * Phi(x)

TransNeXt paper, section 3.2 (convolutional GLU).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..convolution import depthwise_conv
from ..numerics import accumulation_dtype, without_autocast


def gated_dwconv_reference(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See ``foveal.ops.gated_dwconv``; no argument is optional here."""
    dtype = accumulation_dtype(g.dtype)
    with without_autocast(g.device):
        gate = F.gelu(depthwise_conv(g.to(dtype), weight.to(dtype), bias.to(dtype)))
        return (gate * v.to(dtype)).to(g.dtype)
