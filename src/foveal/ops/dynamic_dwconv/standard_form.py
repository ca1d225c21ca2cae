"""Per-sample depthwise convolution from PyTorch's operators, for runtimes of exported programs.

One grouped convolution of all samples is several times faster than shifted maps in ONNX Runtime and OpenVINO. But the
number of groups of a convolution is a constant in every format, so a program for any batch gets shifted maps, unless
its exporter translates the convolution itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..standard import keeps_whole


def dynamic_dwconv_standard(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See ``foveal.ops.dynamic_dwconv``."""
    return convolve_samples(x.permute(0, 3, 1, 2), weight, bias).permute(0, 2, 3, 1)


def convolve_samples(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve maps (B, C, H, W) with kernels (B, C, K, K) and add biases (B, C)."""
    run = _WHOLE if keeps_whole() else _convolve
    return run(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    (batch, channels, height, width), kernel = x.shape, weight.shape[-1]
    radius = kernel // 2
    if isinstance(batch, int) and batch:
        maps = x.reshape(1, batch * channels, height, width)
        kernels = weight.reshape(batch * channels, 1, kernel, kernel)
        y = F.conv2d(maps, kernels, padding=radius, groups=batch * channels)
        return y.reshape(batch, channels, height, width) + bias[:, :, None, None]
    padded, y = F.pad(x, (radius, radius, radius, radius)), bias[:, :, None, None]
    for row in range(kernel):
        for column in range(kernel):
            shifted = padded.narrow(2, row, height).narrow(3, column, width)
            y = y + shifted * weight[:, :, row, column, None, None]
    return y


_WHOLE = torch.library.custom_op(
    "foveal::convolve_samples",
    _convolve,
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor bias) -> Tensor",
)
_WHOLE.register_fake(lambda x, weight, bias: torch.empty_like(x, memory_format=torch.contiguous_format))
