"""Gated depthwise convolution in Triton: GELU(DWConv(g) + bias) * v in one pass over memory. Backward recomputes the
convolution instead of saving it. TransNeXt paper, section 3.2 (convolutional GLU)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..first_use import Draw, Trial
from ..triton import constant, jit, rows_side_by_side, shared_alignment, tl, unsupported_by_triton
from ..triton.depthwise import (
    SIZES,
    TRIAL_MAPS,
    WIDEST_KERNEL,
    by_tap,
    common_alignment,
    convolve,
    depthwise,
    load_pixels,
    map_strides,
    store_pixels,
    tile_place,
    tiles,
    weight_gradient,
)

SQRT_HALF = constant(0.7071067811865476)
INVERSE_SQRT_TWO_PI = constant(0.3989422804014327)


def unsupported(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    """Why the Triton kernels cannot take this call, or None."""
    if weight.shape[-1] > WIDEST_KERNEL:
        return f"kernels wider than {WIDEST_KERNEL} are not compiled, got {weight.shape[-1]}"
    return unsupported_by_triton((g, v), (weight, bias))


def compiled_for(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[int]:
    """The side of the kernel."""
    return (weight.shape[-1],)


def trials(draw: Draw, kernel: int) -> Iterator[Trial]:
    """Small calls with a kernel of this side."""
    for batch, height, width, channels in TRIAL_MAPS:
        shape = (batch, height, width, channels)
        weight = draw(channels, 1, kernel, kernel, spread=1 / kernel)
        tensors = (draw(*shape), draw(*shape), weight, draw(channels))
        yield Trial(draw(*shape), tensors, (), batch * height * width * kernel**2)


@jit
def normal_cdf(x):
    """Phi(x): GELU is x * Phi(x)."""
    return 0.5 + 0.5 * tl.erf(x * SQRT_HALF)


@jit(do_not_specialize=SIZES)
def forward_kernel(
    g_ptr, v_ptr, weight_ptr, bias_ptr, out_ptr, height, width, channels, g_batch, g_pixel, v_batch, v_pixel,
    ALIGN: tl.constexpr, KERNEL: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the gated map (B, H, W, C), contiguous."""
    channels = channels * ALIGN
    sample, first, channel = tile_place(height, width, channels, PIXELS, CHANNELS)
    inside = first + tl.arange(0, PIXELS) < height * width
    g_start, v_start = g_ptr + sample * (g_batch * ALIGN), v_ptr + sample * (v_batch * ALIGN)
    y = convolve(
        g_start, weight_ptr, first, height, width, channel, channels, g_pixel * ALIGN, KERNEL, PIXELS, CHANNELS
    )
    y += tl.load(bias_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
    v = load_pixels(v_start, first, inside, channel, channels, v_pixel * ALIGN, PIXELS)
    out_start = out_ptr + sample * height * width * channels
    store_pixels(out_start, first, inside, channel, channels, channels, y * normal_cdf(y) * v, PIXELS)


@jit(do_not_specialize=SIZES)
def backward_kernel(
    grad_ptr, g_ptr, v_ptr, weight_ptr, bias_ptr, grad_y_ptr, grad_v_ptr, height, width, channels,
    x_batch, x_pixel, g_batch, g_pixel, v_batch, v_pixel,
    ALIGN: tl.constexpr, KERNEL: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the gradients of v and of the convolved map, both (B, H, W, C), contiguous. ``x_*`` are grad's strides."""
    channels = channels * ALIGN
    sample, first, channel = tile_place(height, width, channels, PIXELS, CHANNELS)
    inside = first + tl.arange(0, PIXELS) < height * width
    g_start, v_start = g_ptr + sample * (g_batch * ALIGN), v_ptr + sample * (v_batch * ALIGN)
    y = convolve(
        g_start, weight_ptr, first, height, width, channel, channels, g_pixel * ALIGN, KERNEL, PIXELS, CHANNELS
    )
    y += tl.load(bias_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
    grad_start = grad_ptr + sample * (x_batch * ALIGN)
    grad = load_pixels(grad_start, first, inside, channel, channels, x_pixel * ALIGN, PIXELS)
    v = load_pixels(v_start, first, inside, channel, channels, v_pixel * ALIGN, PIXELS)
    phi = normal_cdf(y)
    slope = phi + y * tl.exp(-0.5 * y * y) * INVERSE_SQRT_TWO_PI
    out = sample * height * width * channels
    store_pixels(grad_v_ptr + out, first, inside, channel, channels, channels, grad * y * phi, PIXELS)
    store_pixels(grad_y_ptr + out, first, inside, channel, channels, channels, grad * v * slope, PIXELS)


def _laid_out(*tensors: Tensor) -> tuple[list[Tensor], int]:
    maps = [rows_side_by_side(t) for t in tensors]
    return maps, common_alignment(shared_alignment(maps), maps[0].shape[-1])


def forward(g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(DWConv(g) + bias) * v, (B, H, W, C) in g's dtype, computed in float32."""
    out = g.new_empty(g.shape)
    if g.numel() == 0:
        return out
    (g, v), align = _laid_out(g, v)
    programs, constants = tiles(g)
    _, height, width, channels = g.shape
    forward_kernel[(programs,)](
        g, v, by_tap(weight[:, 0]), bias.contiguous(), out, height, width, channels // align,
        *map_strides(g, align), *map_strides(v, align), ALIGN=align, KERNEL=weight.shape[-1], **constants,
    )  # fmt: skip
    return out


def backward(grad: Tensor, g: Tensor, v: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of g, v, weight and bias, each in the dtype of its tensor."""
    if g.numel() == 0:
        return torch.zeros_like(g), torch.zeros_like(v), torch.zeros_like(weight), torch.zeros_like(bias)
    (grad, g, v), align = _laid_out(grad, g, v)
    grad_y, grad_v = g.new_empty(g.shape), g.new_empty(g.shape)
    programs, constants = tiles(g)
    _, height, width, channels = g.shape
    kernel = weight.shape[-1]
    backward_kernel[(programs,)](
        grad, g, v, by_tap(weight[:, 0]), bias.contiguous(), grad_y, grad_v, height, width, channels // align,
        *map_strides(grad, align), *map_strides(g, align), *map_strides(v, align),
        ALIGN=align, KERNEL=kernel, **constants,
    )  # fmt: skip
    grad_g = depthwise(grad_y, align, by_tap(weight[:, 0], mirrored=True), None)
    grad_weight, grad_bias = weight_gradient(g, grad_y, align, kernel)
    grad_weight = grad_weight.sum(0)[:, None].to(weight.dtype).contiguous()
    return grad_g, grad_v, grad_weight, grad_bias.sum(0).to(bias.dtype)
