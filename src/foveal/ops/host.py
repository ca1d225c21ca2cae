"""PyTorch on a CPU: what may be computed past its operators, and memory that the process keeps."""

from __future__ import annotations

import ctypes
import functools
import sys

import torch
from torch import Tensor

from .numerics import transformed

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes: glibc takes an int


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
