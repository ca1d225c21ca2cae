"""When a batch norm may be fused with its neighbours, and what it keeps then."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..backend import forced_backend
from ..host import is_plain
from ..native import why_unavailable
from ..native.batch_norm import Statistics


def fuses(x: Tensor, norms: Iterable[nn.BatchNorm2d], others: Iterable[nn.Module] = ()) -> bool:
    """Whether the compiled kernels can compute these norms of a map like x (B, C, H, W), and ``others`` with them, in a
    training step.

    They cannot if something else is asked for: another backend, statistics over several processes, running statistics
    (eval mode) or their cumulative average, another dtype than float32, a tracer, or a hook on one of the modules.
    """
    if x.dtype is not torch.float32 or why_unavailable() is not None or forced_backend() not in (None, "cpu"):
        return False
    if x.shape[0] * x.shape[2] * x.shape[3] < 2 or not in_training(norms, others):
        return False
    parameters = [p for m in (*norms, *others) for p in m._parameters.values() if p is not None]
    return is_plain(x, *parameters) and all(p.dtype is torch.float32 for p in parameters)


def in_training(norms: Iterable[nn.Module], others: Iterable[nn.Module] = ()) -> bool:
    """Whether these are plain batch norms in training mode, with a gain and a momentum, and neither they nor ``others``
    have hooks: then all may be computed without being called."""
    plain = all(type(n) is nn.BatchNorm2d and n.training and n.affine and n.momentum is not None for n in norms)
    return plain and not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in (*norms, *others)
    )


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, statistics: Statistics) -> None:
    """Update the running statistics and the count of batches, as the layer does."""
    mean, variance, count, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    if mean is None or variance is None or count is None or momentum is None:  # kept all or none
        return
    count.add_(1)
    mean.lerp_(statistics.mean, momentum)
    variance.lerp_(statistics.variance, momentum)
