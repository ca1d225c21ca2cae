"""GELU and pooling by the compiled CPU kernels: fills the ``GeluPoolCall`` of native.h."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..native import Kernel, Map, map_of, side_by_side, threads_for, unsupported_maps

_WORK_PER_NUMBER = 20  # of GELU, in multiply-adds
_SIZES = ("batch", "height", "width", "channels", "pool_height", "pool_width", "threads", "half")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, Map) for name in ("x", "pooled", "grad_x")),
        ("workspace", ctypes.c_void_p),
    ]


_forward, _backward = Kernel("gelu_pool", _Call), Kernel("gelu_pool_backward", _Call)


def unsupported(x: Tensor, height: int, width: int) -> str | None:
    """Why the compiled kernels cannot serve this call, or None."""
    return unsupported_maps((), x=x)


def _call(x: Tensor, pooled: Tensor) -> _Call:
    sizes = (*x.shape, *pooled.shape[1:3], threads_for(_WORK_PER_NUMBER * x.numel()), x.dtype == torch.bfloat16)
    return _Call(*sizes, map_of(x), map_of(pooled))


def forward(x: Tensor, height: int, width: int) -> Tensor:
    """The pooled map (B, height, width, C) in x's dtype."""
    x = side_by_side(x)
    pooled = x.new_empty(x.shape[0], height, width, x.shape[3])
    if pooled.numel():
        _forward(_call(x, pooled))
    return pooled


def backward(grad: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor]:
    """The gradient of x (B, H, W, C), in its dtype."""
    x, grad = side_by_side(x), side_by_side(grad)
    grad_x = x.new_empty(x.shape)
    if grad_x.numel():
        call = _call(x, grad)
        call.grad_x = map_of(grad_x)
        _backward(call)
    return (grad_x,)
