"""Tokens to uint8 by the compiled CPU kernel: fills the ``QuantizeCall`` of native.h."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..host import observed
from ..native import Kernel, contiguous_float, side_by_side, threads_for, unsupported_maps

_WORK_PER_NUMBER = 4  # in multiply-adds
_SIZES = ("rows", "channels", "threads", "half", "stride", "zero_point")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in ("x", "out", "weight", "bias")),
        *((name, ctypes.c_float) for name in ("inverse_scale", "eps")),
        ("workspace", ctypes.c_void_p),
    ]


_kernel = Kernel("quantize", _Call)


def unsupported(x: Tensor, *call: object) -> str | None:
    """Why the compiled kernel cannot serve this call, or None."""
    if observed():
        return "a tracer must see PyTorch's own operators"
    return unsupported_maps((), x=x)


def quantize(
    x: Tensor, scale: float, zero_point: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """See ``quantize`` of this package; ``weight``, ``bias`` and ``eps`` are of the LayerNorm, or weight is None."""
    out = torch.empty(x.shape, dtype=torch.uint8, device="cpu")
    if not out.numel():
        return out
    rows = side_by_side(x).reshape(-1, x.shape[-1])
    norm = [] if weight is None or bias is None else [contiguous_float(weight), contiguous_float(bias)]
    channels, stride = rows.shape[1], rows.stride(0)
    sizes = (len(rows), channels, threads_for(_WORK_PER_NUMBER * x.numel()), x.dtype is torch.bfloat16, stride)
    pointers = (rows.data_ptr(), out.data_ptr(), *([p.data_ptr() for p in norm] or (None, None)))
    _kernel(_Call(*sizes, zero_point, *pointers, 1.0 / scale, eps))
    return out
