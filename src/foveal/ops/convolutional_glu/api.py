"""The channel mixer of a TransNeXt block for inference: specification, and the choice of an implementation.

The hidden map is the largest of a block. Layer by layer it is written and read three times; the compiled kernels
compute it for a few rows at a time, so that it never leaves the cache.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..backend import Implementation, Operator, register
from ..gated_dwconv import gated_dwconv
from ..inference import check_shapes, unsupported
from ..linear import linear, linear_add
from ..native import tile
from ..native.panels import Keep, keep_nothing
from . import cpu

# Bytes of weights above which single rows no longer pay: they are read from memory for every few rows.
_LARGEST_WEIGHTS = 4 << 20


def convolutional_glu(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    kernel: Tensor,
    kernel_bias: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    eps: float = 1e-6,
    keep: Keep = keep_nothing,
) -> Tensor:
    """x + W2 (GELU(DWConv(g)) * v) + b2, where [g, v] = W1 LayerNorm(x) + b1 (section 3.2 of the TransNeXt paper).

    Args:
        x: (B, H, W, C).
        norm_weight, norm_bias: (C,), of the LayerNorm.
        weight1, bias1: (2 D, C) and (2 D,), the gate first.
        kernel, kernel_bias: (D, 1, 3, 3) and (D,).
        weight2, bias2: (C, D) and (C,).
        eps: of the LayerNorm.
        keep: called as ``keep(key, weights, compute)``; returns ``compute()``, or what it returned before for this key
            and these weights. The compiled kernels keep packed weights with it.

    Returns:
        (B, H, W, C) in the dtype of x. Differentiable, layer by layer.

    Raises:
        ValueError: shapes that do not fit together.
    """
    call = _normalise(
        x, norm_weight, norm_bias, weight1, bias1, kernel, kernel_bias, weight2, bias2, eps=eps, keep=keep
    )
    return OPERATOR.choose(*call).run(*call)


def _normalise(
    x, norm_weight, norm_bias, weight1, bias1, kernel, kernel_bias, weight2, bias2, *, eps=1e-6, keep=keep_nothing
):  # fmt: skip
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    channels, hidden = x.shape[-1], kernel.shape[0]
    shapes = dict(
        norm_weight=(norm_weight, (channels,)),
        norm_bias=(norm_bias, (channels,)),
        weight1=(weight1, (2 * hidden, channels)),
        bias1=(bias1, (2 * hidden,)),
        kernel=(kernel, (hidden, 1, 3, 3)),
        kernel_bias=(kernel_bias, (hidden,)),
        weight2=(weight2, (channels, hidden)),
        bias2=(bias2, (channels,)),
    )
    check_shapes(shapes, "x and kernel")
    return (x, *(weight for weight, _ in shapes.values()), eps, keep)


def _layers(x, norm_weight, norm_bias, weight1, bias1, kernel, kernel_bias, weight2, bias2, eps, keep):
    hidden = linear(F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps), weight1, bias1)
    return linear_add(gated_dwconv(hidden, None, kernel, kernel_bias), weight2, bias2, x)


def _bands(x, *rest):
    *weights, eps, keep = rest
    packed = keep(("packed", tile()), tuple(weights), lambda: cpu.pack(*weights))
    return cpu.forward(x, packed, weights[6].shape[1], eps)


def _unsupported(x, *rest) -> str | None:
    """Why the compiled kernels cannot take this call, or None."""
    *weights, _, _ = rest
    reason = unsupported("bands", x, *weights)
    if reason is not None:
        return reason
    numbers = weights[2].numel() + weights[6].numel()
    if numbers * 4 > _LARGEST_WEIGHTS:
        return f"weights above {_LARGEST_WEIGHTS >> 20} MiB, which are faster layer by layer"
    return None


OPERATOR = register(
    Operator(
        "convolutional_glu",
        _normalise,
        (
            Implementation("bands", "compiled kernels by bands of rows, for inference", _bands, _unsupported),
            Implementation("layers", "layer by layer, any device", _layers, lambda *call: None),
        ),
    )
)
