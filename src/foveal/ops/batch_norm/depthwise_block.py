"""GELU, batch norm, depthwise convolutions, GELU, batch norm and a 1x1 convolution in a training step on a CPU.

Of the maps between x and the result only one is written, that of the second GELU:

- the depthwise kernels apply the first GELU and norm while they read x, and sum the second norm's statistics while they
  write;
- the second norm is part of the 1x1 convolution's weights, W (s y + t) = (W s) y + W t, so that its sums over the map
  in the backward pass are sums over the gradient of these weights;
- the rest of both norms' gradients belongs to passes that are made anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..fused import refuse_second_derivative
from ..linear import linear, linear_backward
from ..native import batch_norm
from ..native.batch_norm import Statistics
from ..native.depthwise import Depthwise
from .norms import update_running


def depthwise_block(
    x: Tensor,
    convolutions: Sequence[nn.Conv2d],
    norm: nn.BatchNorm2d,
    pointwise: nn.Conv2d,
    *,
    entry: nn.BatchNorm2d | None = None,
    identity: bool = False,
) -> Tensor:
    """pointwise(norm(GELU(y))) of y = convolutions(e) (+ e if identity), where e = entry(GELU(x)), or x without entry.

    The layers in training mode, one after another; ``fuses`` must be true of x, the norms and the other layers. Running
    statistics are updated. A second derivative does not exist.

    Args:
        x: (B, C, H, W) in float32.
        convolutions: depthwise, of odd kernels with padding K // 2 and biases, for consecutive groups of channels.
        norm, entry: of C channels.
        pointwise: a 1x1 convolution of C channels.

    Returns:
        (B, C_out, H, W) in channels_last memory.
    """
    form = _Form(
        kernels=[c.kernel_size[0] for c in convolutions],
        channels=[c.out_channels for c in convolutions],
        identity=identity,
        eps=norm.eps,
        entry_eps=0.0 if entry is None else entry.eps,
        has_bias=pointwise.bias is not None,
    )
    entered = (None, None) if entry is None else (entry.weight, entry.bias)
    y, rows, entry_rows = _Block.apply(
        form, x, *entered, norm.weight, norm.bias, pointwise.weight, pointwise.bias,
        *(c.weight for c in convolutions), *(c.bias for c in convolutions),
    )  # fmt: skip
    update_running(norm, Statistics(rows))
    if entry is not None:
        update_running(entry, Statistics(entry_rows))
    return y


class _Form(NamedTuple):
    """What is not a tensor: of the depthwise convolutions, the two norms, and the 1x1 convolution."""

    kernels: list[int]
    channels: list[int]
    identity: bool
    eps: float
    entry_eps: float
    has_bias: bool


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx, form, x, entry_gain, entry_bias, gain, bias, weight, shift, *parameters):
        x = x.permute(0, 2, 3, 1).contiguous()
        pixels, groups, entry = x.numel() // x.shape[-1], len(form.kernels), None
        if entry_gain is not None:
            sums = batch_norm.moments(x, gelu=True)
            entry = batch_norm.statistics(sums, pixels, entry_gain, entry_bias, form.entry_eps)
        taps, biases = torch.cat([w.flatten() for w in parameters[:groups]]), torch.cat(parameters[groups:])
        y, sums = _convolution(x, taps, biases, form, entry).forward_with_moments()
        norm = batch_norm.statistics(sums, pixels, gain, bias, form.eps)
        weight = weight.flatten(1)
        total = weight.mv(norm.shift) if shift is None else torch.addmv(shift, weight, norm.shift)
        folded = weight * norm.scale
        entry_rows = None if entry is None else entry.rows
        ctx.form = form
        ctx.save_for_backward(x, y, norm.rows, entry_rows, folded, weight, taps, biases)
        ctx.mark_non_differentiable(*(rows for rows in (norm.rows, entry_rows) if rows is not None))
        return linear(y, folded, total).permute(0, 3, 1, 2), norm.rows, entry_rows

    @staticmethod
    def backward(ctx, grad, *_):
        return None, *_Gradients.apply(ctx.form, grad, *ctx.saved_tensors)


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, form, grad, x, y, rows, entry_rows, folded, weight, taps, biases):
        norm, entry = Statistics(rows), None if entry_rows is None else Statistics(entry_rows)
        grad_y, grad_gain, grad_bias, grad_weight, grad_shift = _pointwise_backward(grad, y, folded, weight, norm)
        # The norm's gradient of y, which the depthwise kernels add while they read grad_y.
        pixels = x.numel() // x.shape[-1]
        slope = norm.scale * norm.inverse * grad_gain * (-1 / pixels)
        offset = torch.addcmul(slope * norm.mean, norm.scale, grad_bias, value=1 / pixels).neg_()
        convolution = _convolution(x, taps, biases, form, entry)
        normed, sums, entry_gain, entry_bias = None, None, None, None
        if entry is not None:
            normed, sums = (entry.mean, entry.inverse), convolution.double_sums()
        grad_x, _, grad_taps, grad_biases = convolution.backward(
            grad_y, added=(slope, offset), normed=normed, norm_sums=sums
        )
        if entry is not None:
            entry_gain, entry_bias = batch_norm.backward(grad_x, sums, x, entry, gelu=True)
        kernels, channels = form.kernels, form.channels
        shares = grad_taps.split([c * k * k for c, k in zip(channels, kernels, strict=True)])
        return (
            grad_x.permute(0, 3, 1, 2), entry_gain, entry_bias, grad_gain, grad_bias,
            grad_weight[:, :, None, None], grad_shift if form.has_bias else None,
            *(w.view(c, 1, k, k) for w, c, k in zip(shares, channels, kernels, strict=True)),
            *grad_biases.split(channels),
        )  # fmt: skip

    backward = staticmethod(refuse_second_derivative("batch_norm"))


def _convolution(x: Tensor, taps: Tensor, biases: Tensor, form: _Form, entry: Statistics | None) -> Depthwise:
    entered = None if entry is None else (entry.scale, entry.shift)
    return Depthwise(x, taps, biases, form.kernels, form.channels, identity=form.identity, gelu=True, entry=entered)


def _pointwise_backward(
    grad: Tensor, y: Tensor, folded: Tensor, weight: Tensor, norm: Statistics
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of y (B, H, W, C) with the norm's statistics held fixed, of the norm's gain and bias, and of weight
    (C_out, C) and bias of the 1x1 convolution, from the gradient (B, C_out, H, W) of its result."""
    grad_y, grad_folded, grad_total = linear_backward(grad.permute(0, 2, 3, 1), y, folded)
    grad_bias = weight.t().mv(grad_total)
    grad_scale = torch.addcmul((grad_folded * weight).sum(0), norm.mean, grad_bias, value=-1)
    grad_weight = torch.addr(grad_folded * norm.scale, grad_total, norm.shift)
    return grad_y, grad_scale * norm.inverse, grad_bias, grad_weight, grad_total
