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
    """Whether the compiled kernels can compute these norms, whose input is a map like x (B, C, H, W), in a training step
    together with ``others``.

    They cannot if something else is asked for: another backend, statistics over several processes, running statistics
    (eval mode) or their cumulative average, another dtype than float32, a tracer, or a hook on one of the modules.
    """
    if x.dtype is not torch.float32 or why_unavailable() is not None or forced_backend() not in (None, "cpu"):
        return False
    if x.shape[0] * x.shape[2] * x.shape[3] < 2:
        return False
    return all(_in_training(n) for n in norms) and all(_is_bare(m, x) for m in (*norms, *others))


def _in_training(norm: nn.Module) -> bool:
    return type(norm) is nn.BatchNorm2d and norm.training and norm.affine and norm.momentum is not None


def _is_bare(module: nn.Module, x: Tensor) -> bool:
    """Whether calling the module does no more than compute with float32 parameters."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    parameters = [p for p in module._parameters.values() if p is not None]
    return not any(hooks) and is_plain(x, *parameters) and all(p.dtype is torch.float32 for p in parameters)


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, statistics: Statistics) -> None:
    """Update the running statistics and the count of batches, as the layer does."""
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(statistics.mean, norm.momentum)
        norm.running_var.lerp_(statistics.variance, norm.momentum)
