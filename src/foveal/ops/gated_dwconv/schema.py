"""Gated depthwise convolution as a PyTorch operator: fake tensors, closed-form backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ..numerics import second_derivative_refused, without_autocast
from . import library

_forward = {"cpu": library.forward}
_backward = {"cpu": library.backward}


@torch.library.custom_op("foveal::gated_dwconv", mutates_args=())
def gated_dwconv_op(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C)."""
    with without_autocast(g.device):
        return _forward[backend](g, v, weight, bias)


@gated_dwconv_op.register_fake
def _(g, v, weight, bias, backend):
    return g.new_empty(g.shape)


@torch.library.custom_op("foveal::gated_dwconv_backward", mutates_args=())
def gated_dwconv_backward_op(
    grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of g, v, weight and bias."""
    with without_autocast(g.device):
        return _backward[backend](grad, g, v, weight, bias)


@gated_dwconv_backward_op.register_fake
def _(grad, g, v, weight, bias, backend):
    return tuple(t.new_empty(t.shape) for t in (g, v, weight, bias))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    return (*gated_dwconv_backward_op(grad, *ctx.saved_tensors, ctx.backend), None)


gated_dwconv_op.register_autograd(_differentiate, setup_context=_setup_context)
gated_dwconv_backward_op.register_autograd(
    second_derivative_refused("gated_dwconv"), setup_context=lambda ctx, inputs, output: None
)
