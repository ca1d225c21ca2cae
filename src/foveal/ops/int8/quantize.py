"""Activations to uint8, after an optional LayerNorm."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 255  # from the lowest to the highest uint8
Number: TypeAlias = float | Tensor


def quantize(x: Tensor, scale: Number, zero_point: Number, norm: nn.LayerNorm | None = None) -> Tensor:
    """Return the uint8 numbers q of tokens (..., C) for which (q - zero_point) * scale is nearest to x.

    Args:
        x: floating-point tokens, of any strides.
        scale: distance between neighbouring levels, positive.
        zero_point: the level that means 0, an integer from 0 to 255.
        norm: a LayerNorm over C with weight and bias, which is applied first, in float32.

    Returns:
        (..., C) uint8: round(x * (1 / scale)) + zero_point in float32, ties to even, clamped to 0 ... 255.
    """
    x = x.float()
    if norm is not None:
        x = F.layer_norm(x, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return (x * (1.0 / scale)).round_().add_(zero_point).clamp_(0, LEVELS).to(torch.uint8)
