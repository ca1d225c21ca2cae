"""When a batch norm may be fused with its neighbours, and what it keeps then."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backend import forced_backend
from ..host import is_plain
from ..modules import is_plain_module
from ..native import why_unavailable
from ..native.batch_norm import Statistics


def fuses(
    x: Tensor, norms: Sequence[nn.BatchNorm2d], pointwise: Sequence[nn.Conv2d], depthwise: Sequence[nn.Conv2d]
) -> bool:
    """Whether the compiled kernels can compute these layers, of a map like x (B, C, H, W), in a training step.

    They cannot if something else is asked for: another backend, statistics over several processes, running statistics
    (eval mode) or their cumulative average, another dtype than float32, a tracer, a norm that must be called (see
    ``is_plain_module``), a convolution of another form. That convolutions need not be called, the caller knows.
    """
    if not isinstance(x, Tensor) or x.dtype is not torch.float32:
        return False
    if why_unavailable() is not None or forced_backend() not in (None, "cpu"):
        return False
    if x.shape[0] * x.shape[2] * x.shape[3] < 2 or not in_training(*norms):
        return False
    if not all(_mixes_channels_only(c) for c in pointwise):
        return False
    if not all(_keeps_size(c) for c in depthwise):
        return False
    parameters = [p for m in (*norms, *pointwise, *depthwise) for p in m._parameters.values() if p is not None]
    return is_plain(x, *parameters) and all(p.dtype is torch.float32 for p in parameters)


def in_training(*norms: nn.Module) -> bool:
    """Whether these are plain batch norms in training mode, with a gain and a momentum."""
    return is_plain_module(nn.BatchNorm2d, *norms) and all(
        n.training and n.affine and n.momentum is not None for n in norms
    )


def _mixes_channels_only(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether this depthwise convolution has an odd kernel K, padding K // 2, a bias, and nothing else."""
    kernel, form = conv.kernel_size[0], (conv.stride, conv.dilation, conv.padding_mode)
    square = conv.kernel_size == (kernel, kernel) and conv.padding == (kernel // 2, kernel // 2)
    depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.bias is not None
    return square and kernel % 2 == 1 and depthwise and form == ((1, 1), (1, 1), "zeros")


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, statistics: Statistics) -> None:
    """Update the running statistics and the count of batches, as the layer does."""
    mean, variance, count, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    if not norm.track_running_stats or mean is None or variance is None or count is None or momentum is None:
        return
    count.add_(1)
    mean.lerp_(statistics.mean, momentum)
    variance.lerp_(statistics.variance, momentum)
