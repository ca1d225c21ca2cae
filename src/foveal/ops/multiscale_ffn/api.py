"""The channel mixer of a TransXNet block for inference: specification, and the choice of an implementation.

The hidden map is the largest of a block. Layer by layer it is written and read twice; the compiled kernels compute it
for a few channels at a time, so that it stays in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..backend import Implementation, Operator, register
from ..inference import check_shapes, unsupported
from ..linear import linear, linear_add
from ..multiscale_dwconv import multiscale_dwconv
from ..native import tile
from ..native.panels import Keep, keep_nothing
from . import cpu

# H * W * C * C above which layers are faster: the map exceeds the cache, and is read for every few hidden channels.
# Between 96 x 96 x 64 or 20 x 20 x 320, where panels take 0.84 and 0.95 of the layers' time, and 24 x 24 x 320 (1.02).
_LARGEST_WORK = 45_000_000
_LARGEST_KERNEL = 63


def multiscale_ffn(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    scale: Tensor,
    shift: Tensor,
    kernels: Sequence[Tensor],
    kernel_biases: Sequence[Tensor],
    weight2: Tensor,
    bias2: Tensor,
    *,
    eps: float = 1e-5,
    keep: Keep = keep_nothing,
) -> Tensor:
    """x + W2 GELU(h + concat over groups g of DWConv_g(h_g)) + b2, where h = GELU(W1 norm(x)) * scale + shift (section
    III-C of the TransXNet paper, with its BatchNorms folded).

    Args:
        x: (B, H, W, C).
        norm_weight, norm_bias: (C,), of the GroupNorm with one group.
        weight1: (D, C).
        scale, shift: (D,).
        kernels, kernel_biases: (D_g, 1, K_g, K_g) and (D_g,) per group, every K_g odd, the D_g adding up to D.
        weight2, bias2: (C, D) and (C,).
        eps: of the GroupNorm.
        keep: called as ``keep(key, weights, compute)``; returns ``compute()``, or what it returned before for this key
            and these weights. The compiled kernels keep packed weights with it.

    Returns:
        (B, H, W, C) in the dtype of x. Differentiable, layer by layer.

    Raises:
        ValueError: shapes that do not fit together.
    """
    call = _normalise(
        x, norm_weight, norm_bias, weight1, scale, shift, kernels, kernel_biases, weight2, bias2, eps=eps, keep=keep
    )
    return OPERATOR.choose(*call).run(*call)


def _normalise(
    x, norm_weight, norm_bias, weight1, scale, shift, kernels, kernel_biases, weight2, bias2, *,
    eps=1e-5, keep=keep_nothing,
):  # fmt: skip
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    channels, hidden = x.shape[-1], weight1.shape[0]
    for one in kernels:
        if one.ndim != 4 or tuple(one.shape) != (len(one), 1, one.shape[-1], one.shape[-1]) or one.shape[-1] % 2 == 0:
            raise ValueError(f"kernels must be (D_g, 1, K_g, K_g) with K_g odd, got {tuple(one.shape)}")
    groups = [len(one) for one in kernels]
    if sum(groups) != hidden:
        raise ValueError(f"kernels must together have the {hidden} hidden channels of weight1, got {groups}")
    shapes = dict(
        norm_weight=(norm_weight, (channels,)),
        norm_bias=(norm_bias, (channels,)),
        weight1=(weight1, (hidden, channels)),
        scale=(scale, (hidden,)),
        shift=(shift, (hidden,)),
        weight2=(weight2, (channels, hidden)),
        bias2=(bias2, (channels,)),
    )
    check_shapes(shapes, "x and kernels")
    if [tuple(one.shape) for one in kernel_biases] != [(n,) for n in groups]:
        found = [tuple(one.shape) for one in kernel_biases]
        raise ValueError(f"kernel_biases must have the shapes {[(n,) for n in groups]}, got {found}")
    return (x, *(weight for weight, _ in shapes.values()), tuple(kernels), tuple(kernel_biases), eps, keep)


def _layers(x, norm_weight, norm_bias, weight1, scale, shift, weight2, bias2, kernels, kernel_biases, eps, keep):
    normal = F.group_norm(x.permute(0, 3, 1, 2), 1, norm_weight, norm_bias, eps).permute(0, 2, 3, 1)
    hidden = multiscale_dwconv(
        linear(normal, weight1), kernels, kernel_biases, entry=(scale, shift), identity=True, gelu=True
    )
    return linear_add(hidden, weight2, bias2, x)


def _panels(x, *rest):
    *weights, taps, tap_biases, eps, keep = rest
    kernels, channels = tuple(one.shape[-1] for one in taps), tuple(len(one) for one in taps)
    packed = keep(
        ("packed", tile()),
        (*weights, *taps, *tap_biases),
        lambda: cpu.pack(kernels, channels, *weights, taps, tap_biases),
    )
    return cpu.forward(x, packed, kernels, channels, eps)


def _unsupported(x, *rest) -> str | None:
    """Why the compiled kernels cannot take this call, or None."""
    *weights, taps, tap_biases, _, _ = rest
    reason = unsupported("panels", x, *weights, *taps, *tap_biases)
    if reason is not None:
        return reason
    if max(one.shape[-1] for one in taps) > _LARGEST_KERNEL:
        return f"kernels up to {_LARGEST_KERNEL}"
    if x.shape[1] * x.shape[2] * x.shape[3] ** 2 > _LARGEST_WORK:
        return f"H * W * C * C above {_LARGEST_WORK}, which is faster layer by layer"
    return None


OPERATOR = register(
    Operator(
        "multiscale_ffn",
        _normalise,
        (
            Implementation("panels", "compiled kernels by panels of channels, for inference", _panels, _unsupported),
            Implementation("layers", "layer by layer, any device", _layers, lambda *call: None),
        ),
    )
)
