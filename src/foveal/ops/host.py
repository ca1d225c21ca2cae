"""PyTorch on a CPU: linear layers through oneDNN, and memory that the process keeps.

PyTorch hands float32 products on a CPU to MKL, which on some processors is much slower than oneDNN. The same product is
a 1x1 convolution, which PyTorch hands to oneDNN. Tokens (..., C) are a channels_last map already, so nothing is copied.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import transformed

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes: glibc takes an int

_pointwise: Any = None
_pointwise_add: Any = None
if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _pointwise = torch.ops.mkldnn._linear_pointwise.default
    _pointwise_add = torch.ops.mkldnn._linear_pointwise.binary


def _fast(x: Tensor, weight: Tensor) -> bool:
    """Whether to use oneDNN."""
    if not is_plain(x, weight):
        return False
    if x.dtype is not weight.dtype or x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return False
    if x.dtype is torch.bfloat16 and not computes_bfloat16():
        return False
    if x.dtype is not torch.float32 and x.dtype is not torch.bfloat16:
        return False
    return bool(torch.backends.mkldnn.enabled) and x.numel() > 0


def is_plain(*tensors: Tensor) -> bool:
    """Whether these are plain tensors on a CPU, outside autocast, and nothing must see PyTorch's own operators."""
    if observed() or torch.is_autocast_enabled("cpu"):
        return False
    return all(type(t) in (Tensor, torch.nn.Parameter) and t.device.type == "cpu" for t in tensors)


def observed() -> bool:
    """Whether something must see PyTorch's own operators: a tracer, a function transform, or a TorchDispatchMode, such
    as PyTorch's FLOP counter."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transformed():
        return True
    return torch._C._len_torch_dispatch_stack() > 0


@functools.cache
def computes_bfloat16() -> bool:
    """Whether oneDNN computes in bf16 on this processor."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported and supported())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return x W^T + b (..., C_out) for tokens (..., C_in) and weights (C_out, C_in), like torch.nn.functional.linear;
    with ``gelu``, after an exact GELU.

    Differentiable any number of times, in every dtype and on every device.
    """
    if not _fast(x, weight):
        y = F.linear(x, weight, bias)
        return F.gelu(y) if gelu else y
    if _pointwise is not None and not needs_gradient(x, weight, bias):
        return _pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    if _pointwise is not None and not needs_gradient(weight, bias):
        y = _FrozenLinear.apply(x, weight, bias)
    else:
        y = _as_convolution(x, weight, bias)
    return F.gelu(y) if gelu else y


class _FrozenLinear(torch.autograd.Function):
    """x W^T + b where only x needs a gradient: a product of the same kind, for which x is not kept.

    A convolution keeps its input whatever needs a gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return linear(grad, weight.t()), None, None


def _as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = F.conv2d(x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2), weight.view(*weight.shape, 1, 1), bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """Return ``linear(x, weight, bias) + other``, other (..., C_out); in one pass if no gradient is needed."""
    fits = other.shape == (*x.shape[:-1], weight.shape[0]) and other.dtype is x.dtype
    if fits and _fast(x, weight) and _pointwise_add is not None and not needs_gradient(x, weight, bias, other):
        return _pointwise_add(x, other.contiguous(), weight, bias, "add")
    return linear(x, weight, bias) + other


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd records what is computed from these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def keep_memory() -> bool:
    """Keep the memory of large temporaries on the CPU with this process for reuse; return whether that could be set.

    By default glibc asks the system for every block of more than a few megabytes and returns it at once, and the
    system clears it page by page: a feature map costs several times more than its computation. Once set, freed memory
    stays with the process. Applies to the whole process and cannot be undone; other C libraries are left alone.
    """
    return return_blocks_from(_LARGEST)


def return_blocks_from(size: int) -> bool:
    """Allocate blocks of ``size`` bytes or more separately and return them to the system when they are freed; smaller
    ones stay with the process. Return whether that could be set."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, size) and mallopt(_M_TRIM_THRESHOLD, size))
