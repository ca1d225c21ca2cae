"""Gated depthwise convolution as two PyTorch operators: of a gate and a value, and of both side by side.

One linear layer usually gives both. Of two slices of its output, autograd would join two gradients, a pass over the
largest map of the net; the second operator returns them joined.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..fused import FusedOperator

FUSED = FusedOperator(
    "gated_dwconv",
    tensors=("g", "v", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda g, *_: g.new_empty(g.shape),
)
PACKED = FusedOperator(
    "gated_dwconv_packed",
    tensors=("x", "weight", "bias"),
    constants=(),
    outputs=1,
    fake=lambda x, *_: x.new_empty((*x.shape[:-1], x.shape[-1] // 2)),
)


def packed_forward(forward: Callable) -> Callable:
    """`forward(g, v, weight, bias)` as a function of (x, weight, bias)."""
    return lambda x, weight, bias: forward(*x.chunk(2, -1), weight, bias)


def packed_backward(backward: Callable) -> Callable:
    """`backward(grad, g, v, weight, bias)` as a function of (grad, x, weight, bias)."""

    def run(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        grad_g, grad_v, *others = backward(grad, *x.chunk(2, -1), weight, bias)
        return (torch.cat([grad_g, grad_v], -1), *others)

    return run
