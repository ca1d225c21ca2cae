"""Per-sample depthwise convolution as a PyTorch operator: fake tensors, closed-form backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ..numerics import second_derivative_refused, without_autocast
from . import library

_forward = {"cpu": library.forward}
_backward = {"cpu": library.backward}


@torch.library.custom_op("foveal::dynamic_dwconv", mutates_args=())
def dynamic_dwconv_op(x: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """The convolved map, (B, H, W, C)."""
    with without_autocast(x.device):
        return _forward[backend](x, weight, bias)


@dynamic_dwconv_op.register_fake
def _(x, weight, bias, backend):
    return x.new_empty(x.shape)


@torch.library.custom_op("foveal::dynamic_dwconv_backward", mutates_args=())
def dynamic_dwconv_backward_op(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    with without_autocast(x.device):
        return _backward[backend](grad, x, weight, bias)


@dynamic_dwconv_backward_op.register_fake
def _(grad, x, weight, bias, backend):
    return tuple(t.new_empty(t.shape) for t in (x, weight, bias))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    return (*dynamic_dwconv_backward_op(grad, *ctx.saved_tensors, ctx.backend), None)


dynamic_dwconv_op.register_autograd(_differentiate, setup_context=_setup_context)
dynamic_dwconv_backward_op.register_autograd(
    second_derivative_refused("dynamic_dwconv"), setup_context=lambda ctx, inputs, output: None
)
