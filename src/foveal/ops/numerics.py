"""Numerical conventions shared by all operators."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

EPS = 1e-12  # of the L2 normalisation, as in torch.nn.functional.normalize


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums, norms and softmax are computed: float32 for half types, else ``dtype`` itself."""
    return torch.promote_types(dtype, torch.float32)


def in_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in ``dtype``: ``x.to(dtype)``, without a call of PyTorch if there is nothing to do."""
    return x if x.dtype is dtype else x.to(dtype)


def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x divided by its L2 norm over the last dimension, and the inverse norm (with a last dimension of 1)."""
    inverse = x.norm(dim=-1, keepdim=True).clamp_min(EPS).reciprocal()
    return x * inverse, inverse


def normalise_backward(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of ``normalise`` with respect to x, from its two results.

    Below EPS the norm is a constant, so the projection term vanishes there.
    """
    along = (unit * grad).sum(-1, keepdim=True)
    return inverse * (grad - unit * along.masked_fill(inverse >= 1 / EPS, 0))


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active.

    Closed-form backward passes support neither, and would silently drop a tangent.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is not None or torch.autograd.forward_ad._current_level >= 0


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Disable autocast for tensors on ``device`` (no-op for devices without autocast, such as "meta")."""
    return torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext()


@torch.compiler.assume_constant_result  # Dynamo of PyTorch 2.11 does not trace it
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)
