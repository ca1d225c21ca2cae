"""Batch normalisation in training by the compiled CPU kernels: fills the ``BatchNormCall`` of native.h."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from . import Kernel, threads_for

_WORK_PER_NUMBER = 20  # in multiply-adds
_POINTERS = ("x", "grad", "sums", "gain", "bias", "constants", "grad_gain", "grad_bias", "workspace")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pixels", "channels", "threads", "slots", "gelu")),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


_moments = Kernel("batch_norm_moments", _Call)
_constants = Kernel("batch_norm_constants", _Call)
_backward = Kernel("batch_norm_backward", _Call)


@dataclass(frozen=True)
class Statistics:
    """What a batch norm in training computes from a map: the rows of one tensor (5, C) in float32.

    ``variance`` is the unbiased one, for the running average; ``inverse`` is 1 / sqrt(biased variance + eps). The norm
    is x * scale + shift.
    """

    rows: Tensor

    @property
    def mean(self) -> Tensor:
        return self.rows[0]

    @property
    def variance(self) -> Tensor:
        return self.rows[1]

    @property
    def inverse(self) -> Tensor:
        return self.rows[2]

    @property
    def scale(self) -> Tensor:
        return self.rows[3]

    @property
    def shift(self) -> Tensor:
        return self.rows[4]


def _call(pixels: int, channels: int, threads: int, sums: Tensor, *, gelu: bool = False, eps: float = 0.0, **tensors):
    pointers = (tensors[name].data_ptr() if name in tensors else None for name in _POINTERS[:-1] if name != "sums")
    x, grad, *rest = pointers
    return _Call(pixels, channels, threads, len(sums), gelu, eps, x, grad, sums.data_ptr(), *rest)


def moments(x: Tensor, gelu: bool) -> Tensor:
    """Sums and sums of squares over all pixels of x (..., C), or of GELU(x): (shares to be summed, 2, C) in float64.

    x must be contiguous and float32.
    """
    channels = x.shape[-1]
    threads = threads_for(_WORK_PER_NUMBER * x.numel())
    sums = x.new_empty(threads, 2, channels, dtype=torch.float64)
    _moments(_call(x.numel() // channels, channels, threads, sums, gelu=gelu, x=x))
    return sums


def statistics(sums: Tensor, pixels: int, gain: Tensor, bias: Tensor, eps: float) -> Statistics:
    """The statistics of at least two pixels from the sums over them; gain and bias (C,) in float32."""
    rows = gain.new_empty(5, len(gain))
    _constants(_call(pixels, len(gain), 1, sums, eps=eps, gain=gain, bias=bias, constants=rows))
    return Statistics(rows)


def backward(grad: Tensor, sums: Tensor, x: Tensor, norm: Statistics, gelu: bool) -> tuple[Tensor, Tensor]:
    """Turn the gradient ``grad`` (..., C) of the norm of x, or of GELU(x), into that of x, in place.

    Args:
        sums: over all pixels of the gradient, and of its product with the normalised number, (shares, 2, C).

    Returns:
        The gradients of gain and bias (C,).
    """
    channels = x.shape[-1]
    grad_gain, grad_bias = x.new_empty(2, channels)
    threads = threads_for(_WORK_PER_NUMBER * x.numel())
    call = dict(x=x, grad=grad, constants=norm.rows, grad_gain=grad_gain, grad_bias=grad_bias)
    _backward(_call(x.numel() // channels, channels, threads, sums, gelu=gelu, **call))
    return grad_gain, grad_bias
