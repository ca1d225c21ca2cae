"""Shared by the Triton kernels of all operators: which calls Triton can take, and how tensors are laid out for it.

Importing this package does not require Triton: without it ``jit`` leaves functions as they are, and
``unsupported_by_triton`` reports that none of them runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of PyTorch comes without
    triton = tl = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_OLDEST_GPU = (8, 0)  # the first one with bf16 matrix products
_few_programs = ContextVar("few_programs", default=False)


def jit(kernel: Callable | None = None, **options: Any) -> Any:
    """``triton.jit``, or the identity if Triton is not installed. With options it is a decorator factory."""
    if kernel is None:
        return lambda k: jit(k, **options)
    if triton is None:
        return kernel
    if INTERPRETED:  # specialises nothing, and older versions reject the options
        return triton.jit(kernel)
    return triton.jit(kernel, **options)


def constant(value: float) -> Any:
    """A module-level number that kernels may read."""
    return value if tl is None else tl.constexpr(value)


def unsupported_by_triton(activations: Iterable[Tensor], parameters: Iterable[Tensor] = ()) -> str | None:
    """Why Triton cannot take these tensors, or None. Activations must share one dtype; parameters are converted."""
    if triton is None:
        return "triton is not installed"
    first, *others = activations
    if first.device.type != "cuda" and not (INTERPRETED and first.device.type == "cpu"):
        return f"Triton needs a CUDA device, the tensors are on {first.device.type!r}"
    if first.device.type == "cuda" and torch.cuda.get_device_capability(first.device) < _OLDEST_GPU:
        return "Triton's matrix products need a GPU of compute capability 8.0 or later"
    if INTERPRETED and first.dtype is not torch.float32:
        return f"Triton's interpreter is exact only in float32, got {first.dtype}"
    if any(t.dtype != first.dtype for t in others):
        return f"activations of several dtypes: {', '.join(sorted({str(t.dtype) for t in (first, *others)}))}"
    wrong = next((t.dtype for t in (first, *parameters) if t.dtype not in _DTYPES), None)
    return None if wrong is None else f"Triton kernels take float32, bfloat16 and float16, got {wrong}"


def shared_alignment(tensors: Iterable[Tensor]) -> int:
    """Return how many elements divide all strides and start addresses of these tensors: 16 bytes' worth, or 1.

    Kernels get their strides divided by it and multiply again, which shows the compiler that it may load 16 bytes at a
    time. The stride of the last dimension is not considered.
    """
    for t in tensors:
        elements = 16 // t.element_size()
        if t.data_ptr() % 16 or any(stride % elements for stride in t.stride()[:-1]):
            return 1
    return elements


def rows_side_by_side(x: Tensor) -> Tensor:
    """Return x (B, H, W, ..., C), or a copy, with contiguous channels and a single stride between pixels, so that pixel
    y * W + x starts at that number times the stride."""
    dense = x.stride(-1) == 1 or x.shape[-1] == 1
    joined = x.shape[1] == 1 or x.stride(1) == x.shape[2] * x.stride(2)
    return x if dense and joined else x.contiguous()


def programs_wanted(device: torch.device, each: int) -> int:
    """Return how many programs keep a GPU busy, with ``each`` per multiprocessor; one in the interpreter."""
    if device.type != "cuda" or _few_programs.get():
        return 1
    return each * torch.cuda.get_device_properties(device).multi_processor_count


@contextmanager
def few_programs() -> Iterator[None]:
    """Split the work of calls into few long programs, as that of large calls is: for small calls that try the loops."""
    token = _few_programs.set(True)
    try:
        yield
    finally:
        _few_programs.reset(token)


def power_of_two(n: int, least: int = 1) -> int:
    """Return the smallest power of two that is at least ``n`` and ``least``."""
    return max(1 << max(n - 1, 0).bit_length(), least)


def is_of_the_kernel(error: BaseException) -> bool:
    """Whether an exception is about a kernel that does not compile or breaks the device, so that every process would
    meet it again. Others, such as full memory or a missing C compiler, are about the moment."""
    about_kernels = (torch.AcceleratorError, *([] if triton is None else [triton.TritonError]))
    return isinstance(error, about_kernels) and "out of memory" not in str(error)
