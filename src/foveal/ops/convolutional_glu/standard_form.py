"""The channel mixer of a TransNeXt block from PyTorch's operators, for runtimes of exported programs.

Linear layers are 1x1 convolutions of a channels-first map, so that only the narrow maps before and after the mixer are
turned around. Gate and value are a convolution each, since runtimes copy both halves of one map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..standard import pointwise


def convolutional_glu_standard(
    x, norm_weight, norm_bias, weight1, bias1, kernel, kernel_bias, weight2, bias2, eps, keep
) -> Tensor:
    """See ``foveal.ops.convolutional_glu``."""
    d = len(kernel)
    normal = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps).permute(0, 3, 1, 2)
    gate, value = (pointwise(normal, weight1[part], bias1[part]) for part in (slice(None, d), slice(d, None)))
    gate = F.gelu(F.conv2d(gate, kernel, kernel_bias, padding=kernel.shape[-1] // 2, groups=kernel.shape[0]))
    return x + pointwise(gate * value, weight2, bias2).permute(0, 2, 3, 1)
