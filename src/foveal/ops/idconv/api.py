"""TransXNet's IDConv for inference: specification, and the choice of an implementation.

The kernels of a sample are mixed by two small layers. Layer by layer that takes a dozen operators on small tensors,
which cost more than they compute; the compiled kernels do it in one call, together with the convolution.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..backend import Implementation, Operator, register
from ..dynamic_dwconv import dynamic_dwconv
from ..inference import check_shapes, unsupported
from ..linear import linear
from ..native import tile
from ..native.panels import Keep, keep_nothing
from . import cpu
from .reference import mix, pool

_LARGEST_KERNEL = 63


def idconv(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    learned: Tensor,
    *,
    keep: Keep = keep_nothing,
) -> Tensor:
    """Depthwise convolution with kernels and biases mixed for every sample (equation 3 of the TransXNet paper):

        kernels, biases = sum over groups g of softmax_g(W2 GELU(W1 p + b1) + b2) * learned_g

    where p is x averaged over K x K cells for the kernels, and over all pixels for the biases.

    Args:
        x: (B, H, W, C), any strides.
        weight1, bias1: (S, C) and (S,).
        weight2, bias2: (G * C, S) and (G * C,), group by group.
        learned: (G, K * K + 1, C), K odd: the kernels of every group, then its biases.
        keep: called as ``keep(key, weights, compute)``; returns ``compute()``, or what it returned before for this key
            and these weights. The compiled kernels keep packed weights with it.

    Returns:
        (B, H, W, C) in the dtype of x. Differentiable, layer by layer.

    Raises:
        ValueError: shapes that do not fit together.
    """
    call = _normalise(x, weight1, bias1, weight2, bias2, learned, keep=keep)
    return OPERATOR.choose(*call).run(*call)


def _normalise(x, weight1, bias1, weight2, bias2, learned, *, keep=keep_nothing):
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    channels, squeezed = x.shape[-1], bias1.numel()
    groups, positions = learned.shape[:2] if learned.ndim == 3 else (0, 0)
    kernel = math.isqrt(max(positions - 1, 0))
    if groups < 1 or kernel % 2 == 0 or tuple(learned.shape) != (groups, kernel * kernel + 1, channels):
        raise ValueError(f"learned must be (G, K * K + 1, {channels}) with K odd, got {tuple(learned.shape)}")
    shapes = dict(
        weight1=(weight1, (squeezed, channels)),
        bias1=(bias1, (squeezed,)),
        weight2=(weight2, (groups * channels, squeezed)),
        bias2=(bias2, (groups * channels,)),
    )
    check_shapes(shapes, "x and learned")
    return x, weight1, bias1, weight2, bias2, learned, keep


def _layers(x, weight1, bias1, weight2, bias2, learned, keep):
    pooled = pool(x, math.isqrt(learned.shape[1]))
    scores = linear(linear(pooled, weight1, bias1, gelu=True), weight2, bias2)
    return dynamic_dwconv(x, *mix(scores, learned))


def _panels(x, *rest):
    *weights, keep = rest
    packed = keep(("packed", tile()), tuple(weights), lambda: cpu.pack(*weights))
    return cpu.forward(x, packed, weights[1].numel(), *weights[-1].shape[:2])


def _unsupported(x, *rest) -> str | None:
    """Why the compiled kernels cannot take this call, or None."""
    *weights, _ = rest
    reason = unsupported("panels", x, *weights)
    if reason is not None:
        return reason
    if weights[-1].shape[1] > _LARGEST_KERNEL**2 + 1:
        return f"kernels up to {_LARGEST_KERNEL}"
    return None


OPERATOR = register(
    Operator(
        "idconv",
        _normalise,
        (
            Implementation("panels", "compiled kernels, one call for inference", _panels, _unsupported),
            Implementation("layers", "layer by layer, any device", _layers, lambda *call: None),
        ),
    )
)
