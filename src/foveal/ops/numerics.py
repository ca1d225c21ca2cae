"""Numerical conventions that all operators share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

EPS = 1e-12  # of the L2 normalisation, as torch.nn.functional.normalize has it


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums, norms and softmax are computed: float32 for half types, else `dtype` itself."""
    return torch.promote_types(dtype, torch.float32)


def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """x over its L2 norm in the last dimension, and one over that norm (kept as a dimension of 1)."""
    inverse = x.norm(dim=-1, keepdim=True).clamp_min(EPS).reciprocal()
    return x * inverse, inverse


def normalise_backward(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of `normalise` with respect to x, from its two results.

    Below EPS the norm is a constant, so the projection term vanishes there.
    """
    along = (unit * grad).sum(-1, keepdim=True)
    return inverse * (grad - unit * along.masked_fill(inverse >= 1 / EPS, 0))


def second_derivative_refused(operator: str):
    """A backward function that says why it will not run: for operators whose backward is closed form, not
    differentiable."""

    def refuse(ctx, *grads):
        raise NotImplementedError(
            f"foveal.ops.{operator} has no second derivative on this backend; "
            'wrap the forward pass in `with foveal.ops.use_backend("reference"):` to get one'
        )

    return refuse


def transformed() -> bool:
    """Whether a transform of torch.func is at work, or forward-mode differentiation.

    Closed-form backwards know neither, and would leave a tangent out in silence.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is not None or torch.autograd.forward_ad._current_level >= 0


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A block in which tensors on `device` keep the dtype they have (no-op where the device has no autocast, as
    "meta")."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
