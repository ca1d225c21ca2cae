"""Activations to uint8, after an optional LayerNorm: specification, and the choice of an implementation."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backend import Implementation, Operator
from ..numerics import without_autocast
from . import cpu

LEVELS = 255  # from the lowest to the highest uint8
Number: TypeAlias = float | Tensor


def quantize(x: Tensor, scale: Number, zero_point: Number, norm: nn.LayerNorm | None = None) -> Tensor:
    """Return the uint8 numbers q of tokens (..., C) for which (q - zero_point) * scale is nearest to x.

    Args:
        x: floating-point tokens, of any strides.
        scale: distance between neighbouring levels, positive; a tensor () only while a tracer runs.
        zero_point: the level that means 0, an integer from 0 to 255; likewise.
        norm: a LayerNorm over C with weight and bias, which is applied first, in float32.

    Returns:
        (..., C) uint8: round(x * (1 / scale)) + zero_point in float32, ties to even, clamped to 0 ... 255. It is not
        differentiable.
    """
    call = (x, scale, zero_point, *((None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)))
    return OPERATOR.choose(*call).run(*call)


def _quantize_torch(
    x: Tensor, scale: Number, zero_point: Number, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    x = x.float()
    if weight is not None and bias is not None:
        with without_autocast(x.device):
            x = F.layer_norm(x, x.shape[-1:], weight.float(), bias.float(), eps)
    return (x * (1.0 / scale)).round_().add_(zero_point).clamp_(0, LEVELS).to(torch.uint8)


#: Not registered: an internal step of int8 products. ``use_backend`` applies to it.
OPERATOR = Operator(
    "quantize",
    lambda *call: call,
    (
        Implementation("cpu", "compiled kernel, one pass", cpu.quantize, cpu.unsupported),
        Implementation("torch", "PyTorch's own operators, any device", _quantize_torch, lambda *call: None),
    ),
)
