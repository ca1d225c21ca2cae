"""Linear layers on a CPU, each product by the library that computes it fastest.

PyTorch hands float32 products on a CPU to MKL, which on some processors is much slower than oneDNN. The same product is
a 1x1 convolution, which PyTorch hands to oneDNN. Tokens (..., C) are a channels_last map already, so nothing is copied.
But without AVX-512, oneDNN computes the gradient of a convolution's weights at a third of MKL's speed.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .host import computes_bfloat16, is_plain, needs_gradient

_pointwise = _pointwise_add = None
if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _pointwise = torch.ops.mkldnn._linear_pointwise.default
    _pointwise_add = torch.ops.mkldnn._linear_pointwise.binary


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
    y = _Product.apply(x, weight, bias) if _prefers_product(x, weight, bias) else _as_convolution(x, weight, bias)
    return F.gelu(y) if gelu else y


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """Return ``linear(x, weight, bias) + other``, other (..., C_out); in one pass if no gradient is needed."""
    fits = other.shape == (*x.shape[:-1], weight.shape[0]) and other.dtype is x.dtype
    if fits and _fast(x, weight) and _pointwise_add is not None and not needs_gradient(x, weight, bias, other):
        return _pointwise_add(x, other.contiguous(), weight, bias, "add")
    return linear(x, weight, bias) + other


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the 1x1 convolution (B, C_out, H, W) of a map (B, C_in, H, W) with weights (C_out, C_in, 1, 1), like
    torch.nn.functional.conv2d.

    Differentiable any number of times, in every dtype and on every device.
    """
    if needs_gradient(x, weight, bias) and is_plain(x, weight) and x.ndim == 4:
        tokens, matrix = x.permute(0, 2, 3, 1), weight.flatten(1)
        if tokens.is_contiguous() and _fast(tokens, matrix) and _prefers_product(x, weight, bias):
            return _Product.apply(tokens, matrix, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias)


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x (..., C_in), weight (C_out, C_in) and bias (C_out,) from that of ``linear``'s result.

    For float32 on a CPU, outside autograd: the backward pass of operators that contain a linear layer.
    """
    if _pointwise is not None and _has_slow_gradient(x):
        return _pointwise(grad, weight.t(), None, "none", [], ""), _weight_gradient(grad, x), _rows(grad).sum(0)
    maps = (t.reshape(1, -1, 1, t.shape[-1]).permute(0, 3, 1, 2) for t in (grad, x))
    form: tuple[Any, ...] = ([weight.shape[0]], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True] * 3)
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(*maps, weight[:, :, None, None], *form)
    return grad_x.permute(0, 2, 3, 1).reshape(x.shape), grad_weight.flatten(1), grad_bias


class _Product(torch.autograd.Function):
    """``linear`` by oneDNN, with the weights' gradient by PyTorch's product; x is kept only for that gradient."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, grad):
        (x, weight), needed = ctx.saved_tensors, ctx.needs_input_grad
        return (
            linear(grad, weight.t()) if needed[0] else None,
            _weight_gradient(grad, x) if needed[1] else None,
            _rows(grad).sum(0) if needed[2] else None,
        )


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return _rows(grad).t() @ _rows(x)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = F.conv2d(x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2), weight.view(*weight.shape, 1, 1), bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _fast(x: Tensor, weight: Tensor) -> bool:
    """Whether to use oneDNN for tokens and a matrix of weights."""
    if not is_plain(x, weight):
        return False
    if x.dtype is not weight.dtype or x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return False
    if x.dtype is torch.bfloat16 and not computes_bfloat16():
        return False
    if x.dtype is not torch.float32 and x.dtype is not torch.bfloat16:
        return False
    return bool(torch.backends.mkldnn.enabled) and x.numel() > 0


def _prefers_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether ``_Product`` is faster than a convolution, or keeps less: a convolution keeps x for any gradient."""
    return _pointwise is not None and (_has_slow_gradient(x) or not needs_gradient(weight, bias))


def _has_slow_gradient(x: Tensor) -> bool:
    """Whether oneDNN's convolution is slow in the backward pass."""
    return _pointwise is not None and x.dtype is torch.float32 and not _has_avx512()


@functools.cache
def _has_avx512() -> bool:
    return "AVX512" in torch.backends.cpu.get_cpu_capability()
