"""Per-sample depthwise convolution by the Triton kernels of ``ops.triton.depthwise`` (TransXNet paper, equation 3)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..first_use import Draw, Trial
from ..triton import rows_side_by_side, shared_alignment, unsupported_by_triton
from ..triton.depthwise import TRIAL_MAPS, WIDEST_KERNEL, by_tap, depthwise, weight_gradient


def unsupported(x: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    """Why the Triton kernels cannot take this call, or None."""
    if weight.shape[-1] > WIDEST_KERNEL:
        return f"kernels wider than {WIDEST_KERNEL} are not compiled, got {weight.shape[-1]}"
    return unsupported_by_triton((x,), (weight, bias))


def compiled_for(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[int]:
    """The side of the kernel."""
    return (weight.shape[-1],)


def trials(draw: Draw, kernel: int) -> Iterator[Trial]:
    """Small calls with kernels of this side."""
    for batch, height, width, channels in TRIAL_MAPS:
        shape = (batch, height, width, channels)
        weight = draw(batch, channels, kernel, kernel, spread=1 / kernel)
        tensors = (draw(*shape), weight, draw(batch, channels))
        yield Trial(draw(*shape), tensors, (), batch * height * width * kernel**2)


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolved map (B, H, W, C) in x's dtype, summed in float32."""
    if x.numel() == 0:
        return x.new_empty(x.shape)
    x = rows_side_by_side(x)
    return depthwise(x, shared_alignment((x,)), by_tap(weight), bias)


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, each in the dtype of its tensor."""
    if x.numel() == 0:
        return x.new_zeros(x.shape), weight.new_zeros(weight.shape), bias.new_zeros(bias.shape)
    grad, x = rows_side_by_side(grad), rows_side_by_side(x)
    align = shared_alignment((grad, x))
    grad_x = depthwise(grad, align, by_tap(weight, mirrored=True), None)
    grad_weight, grad_bias = weight_gradient(x, grad, align, weight.shape[-1])
    return grad_x.to(x.dtype), grad_weight.to(weight.dtype).contiguous(), grad_bias.to(bias.dtype)
