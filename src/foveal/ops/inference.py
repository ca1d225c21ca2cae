"""What the operators for inference alone share: which shapes fit, and why the compiled kernels cannot take a call."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .backend import forced_backend
from .host import is_plain, needs_gradient
from .native import why_unavailable

Shapes = Mapping[str, tuple[Tensor, tuple[int, ...]]]


def check_shapes(weights: Shapes, beside: str) -> None:
    """Raise ValueError for the first weight that does not have the shape that the tensors called ``beside`` require."""
    for name, (weight, shape) in weights.items():
        if tuple(weight.shape) != shape:
            raise ValueError(f"{name} must have shape {shape} beside {beside}, got {tuple(weight.shape)}")


def unsupported(implementation: str, *tensors: Tensor) -> str | None:
    """Why the compiled kernels cannot take a call with these tensors, or None; ``use_backend(implementation)`` and
    ``use_backend("cpu")`` allow them."""
    if why_unavailable() is not None:
        return why_unavailable()
    if forced_backend() not in (None, implementation, "cpu"):
        return f"use_backend({forced_backend()!r}) is in force"
    if not is_plain(*tensors):
        return "tensors that are traced, observed, in autocast or not on a CPU"
    if any(t.dtype is not torch.float32 for t in tensors):
        return "all tensors must be float32"
    if needs_gradient(*tensors):
        return "a gradient is needed"
    return None
