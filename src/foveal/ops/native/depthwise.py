"""Depthwise convolutions by the compiled CPU kernels: fills the ``DepthwiseCall`` of native.h."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import Kernel, Map, contiguous_float, map_of, side_by_side, threads_for, unsupported_maps

_LARGEST_KERNEL = 63
_SIZES = ("batch", "height", "width", "groups", "bands", "threads", "half", "identity", "gelu")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.POINTER(ctypes.c_int64)) for name in ("kernels", "channels")),
        *((name, Map) for name in ("x", "value", "out")),
        *((name, ctypes.c_void_p) for name in ("scale", "shift", "weight", "bias")),
        *((f"{name}_batch", ctypes.c_int64) for name in ("weight", "bias")),
        ("moments", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
    ]


class _BackwardCall(ctypes.Structure):
    _fields_ = [
        ("forward", _Call),
        *((name, Map) for name in ("grad", "grad_x", "grad_value")),
        *((name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias", "slope", "offset", "mean", "inverse")),
        *((name, ctypes.c_void_p) for name in ("norm_sums", "workspace")),
    ]


_forward = Kernel("depthwise_forward", _Call)
_backward = Kernel("depthwise_backward", _BackwardCall)


def unsupported(kernels: Sequence[int], parameters: Sequence[Tensor], **maps: Tensor) -> str | None:
    """Why the compiled kernels cannot convolve these maps, or None."""
    if max(kernels) > _LARGEST_KERNEL:
        return f"kernels up to {_LARGEST_KERNEL}"
    return unsupported_maps(parameters, **maps)


def _bands(shape: Sequence[int], kernel: int, threads: int) -> int:
    """How many bands the rows of a map are cut into: more than one only if images and channels are too few for all
    threads, and few enough that shared rows cost less than a band's own."""
    batch, height, _, channels = shape
    pieces = max(batch * channels // 16, 1)
    return 1 if threads == 1 else max(1, min(height // (2 * kernel), math.ceil(4 * threads / pieces)))


class Depthwise:
    """One convolution of a map (B, H, W, C), ready to run: y = convolution + bias (+ x), then GELU, times ``value``.

    Args:
        x: float32 or bfloat16; any strides.
        weight, bias: all groups concatenated, (sum of C_g * K_g^2,) and (C,), in any dtype; with ``own_weights`` they
            have a leading dimension of samples.
        kernels, channels: K_g and C_g per group.
        value: the gate's other factor, shaped like x; only with ``gelu``.
        entry: (scale, shift), each (C,): x is replaced by GELU(x) * scale + shift.
    """

    def __init__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        kernels: Sequence[int],
        channels: Sequence[int],
        *,
        value: Tensor | None = None,
        identity: bool = False,
        gelu: bool = False,
        own_weights: bool = False,
        entry: tuple[Tensor, Tensor] | None = None,
    ):
        self.x, self.weight, self.bias = side_by_side(x), contiguous_float(weight), contiguous_float(bias)
        self.value = None if value is None else side_by_side(value)
        self.entry = (None, None) if entry is None else tuple(contiguous_float(t) for t in entry)
        self.own_weights = own_weights
        batch, height, width, all_channels = x.shape
        taps = sum(c * k * k for c, k in zip(channels, kernels, strict=True))
        threads = threads_for(batch * height * width * taps)
        numbers = ctypes.c_int64 * len(kernels)
        self.c = _Call(
            batch, height, width, len(kernels), _bands(x.shape, max(kernels), threads), threads,
            x.dtype == torch.bfloat16, identity, gelu,
            numbers(*kernels), numbers(*channels),
            map_of(self.x), Map() if self.value is None else map_of(self.value), Map(),
            *(None if t is None else t.data_ptr() for t in self.entry),
            self.weight.data_ptr(), self.bias.data_ptr(),
            self.weight.shape[-1] if own_weights else 0, all_channels if own_weights else 0,
        )  # fmt: skip

    def forward(self) -> Tensor:
        """The result (B, H, W, C), contiguous, in x's dtype."""
        out = self.x.new_empty(self.x.shape)
        if out.numel():
            self.c.out = map_of(out)
            _forward(self.c)
        return out

    def forward_with_moments(self) -> tuple[Tensor, Tensor]:
        """The result, and its sums and sums of squares over the map, as ``double_sums`` returns them."""
        sums = self.double_sums()
        self.c.moments = sums.data_ptr()
        out = self.forward()
        self.c.moments = None
        return out, sums

    def double_sums(self) -> Tensor:
        """Zeros for two sums per channel, (shares to be summed, 2, C) in float64."""
        return self.x.new_zeros(self.c.threads, 2, self.x.shape[-1], dtype=torch.float64)

    def backward(
        self,
        grad: Tensor,
        grad_x: Tensor | None = None,
        grad_value: Tensor | None = None,
        *,
        added: tuple[Tensor, Tensor] | None = None,
        normed: tuple[Tensor, Tensor] | None = None,
        norm_sums: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Gradients of x and ``value`` in their dtype, and of weight and bias in float32, in the given shapes.
        The first two are written to ``grad_x`` and ``grad_value`` if these are given, whatever their strides. With an
        entry, the gradient of x is that of the entry's result.

        Args:
            added: (slope, offset), each (C,) in float32: ``result * slope + offset`` is added to ``grad``; only with
                ``gelu``.
            normed: (mean, inverse deviation) of GELU(x), each (C,) in float32; only with an entry.
            norm_sums: with ``normed``, receives the sums over the map of the entry's gradient, and of its product with
                the normalised GELU(x); as ``double_sums`` returns it.
        """
        c, grad = self.c, side_by_side(grad)
        grad_x = self.x.new_empty(self.x.shape) if grad_x is None else grad_x
        if self.value is not None and grad_value is None:
            grad_value = self.value.new_empty(self.value.shape)
        slots = c.bands if self.own_weights else c.threads
        sums = [t.new_zeros(slots, *t.shape) for t in (self.weight, self.bias)]
        if self.x.numel():
            gate = Map() if grad_value is None else map_of(grad_value)
            vectors = (*sums, *(added or (None, None)), *(normed or (None, None)), norm_sums)
            pointers = (None if t is None else t.data_ptr() for t in vectors)
            _backward(_BackwardCall(c, map_of(grad), map_of(grad_x), gate, *pointers))
        grad_weight, grad_bias = (t.sum(0) if len(t) > 1 else t[0] for t in sums)
        return grad_x, grad_value, grad_weight, grad_bias
