"""Depthwise convolution with one kernel per sample and channel in plain PyTorch, differentiable any number of times.

    y[b, i, c] = bias[b, c] + sum_j weight[b, c, j] * x[b, i + j, c]     j over the K*K window, zeros outside

TransXNet paper, equation 3 (IDConv), after its kernels have been assembled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import accumulation_dtype, without_autocast


def dynamic_dwconv_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See ``foveal.ops.dynamic_dwconv``; no argument is optional here."""
    b, height, width, channels = x.shape
    dtype, kernel = accumulation_dtype(x.dtype), weight.shape[-1]
    with without_autocast(x.device):
        columns = F.unfold(x.to(dtype).permute(0, 3, 1, 2), kernel, padding=kernel // 2)
        columns = columns.reshape(b, channels, kernel * kernel, height * width)
        y = torch.einsum("bcjn,bcj->bnc", columns, weight.to(dtype).flatten(2)) + bias.to(dtype)[:, None]
    return y.reshape(b, height, width, channels).to(x.dtype)
