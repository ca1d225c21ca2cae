"""Depthwise convolution of channels-last maps, and its weight gradient: the kernels of both convolution operators.

A tile is PIXELS consecutive pixels of one sample (across the ends of rows, so no width wastes lanes) by CHANNELS
channels. It reads its window K*K times from the first-level cache, and every number about once from memory. Weights
come as (K*K, C) in float32, one tap per row, so that loads are wide.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import jit, power_of_two, programs_wanted, tl

WIDEST_KERNEL = 15
_PIXELS = 64
_PROGRAMS_PER_PROCESSOR = 16  # of the weight gradient
# (B, H, W, C) of the calls that try a kernel: the last tile of pixels and of channels is partial, or the only one is.
TRIAL_MAPS = ((2, 13, 10, 72), (2, 5, 7, 9))
SIZES = (
    "batches", "height", "width", "channels", "x_batch", "x_pixel", "y_batch", "y_pixel", "weight_batch", "share",
    "shares", "g_batch", "g_pixel", "v_batch", "v_pixel",
)  # fmt: skip


@jit
def load_pixels(start, first, inside, channel, channels, stride, PIXELS: tl.constexpr):
    """(PIXELS, CHANNELS) in float32, from pixel number ``first`` on; 0 where not ``inside``."""
    offsets = tl.arange(0, PIXELS)[:, None] * stride + channel[None, :]
    mask = inside[:, None] & (channel < channels)[None, :]
    return tl.load(start + tl.cast(first, tl.int64) * stride + offsets, mask=mask, other=0.0).to(tl.float32)


@jit
def store_pixels(start, first, inside, channel, channels, stride, x, PIXELS: tl.constexpr):
    """Write to the place that ``load_pixels`` reads."""
    offsets = tl.arange(0, PIXELS)[:, None] * stride + channel[None, :]
    mask = inside[:, None] & (channel < channels)[None, :]
    tl.store(start + tl.cast(first, tl.int64) * stride + offsets, x.to(start.dtype.element_ty), mask=mask)


@jit
def shifted(number, height, width, dy, dx):
    """Whether the pixel dy rows and dx columns away from each of these is in the map."""
    y, x = number // width + dy, number % width + dx
    return (y >= 0) & (y < height) & (x >= 0) & (x < width) & (number < height * width)


@jit
def convolve(
    start, weight, first, height, width, channel, channels, stride,
    KERNEL: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """(PIXELS, CHANNELS) in float32: the window of every pixel times the weights (K*K, C)."""
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    number = first + tl.arange(0, PIXELS)
    for row in range(KERNEL):  # not unrolled: loads of one row in flight are enough, and the code stays small
        for column in tl.static_range(KERNEL):
            dy, dx = row - KERNEL // 2, column - KERNEL // 2
            inside = shifted(number, height, width, dy, dx)
            x = load_pixels(start, first + dy * width + dx, inside, channel, channels, stride, PIXELS)
            tap = weight + (row * KERNEL + column) * channels
            total += x * tl.load(tap + channel, mask=channel < channels, other=0.0)[None, :]
    return total


@jit
def tile_place(height, width, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """The work of this program: (sample, first pixel, channels). Channels of the same pixels are consecutive."""
    program = tl.program_id(0)
    blocks = tl.cdiv(channels, CHANNELS)
    tiles = tl.cdiv(height * width, PIXELS)
    sample = program // blocks // tiles
    channel = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    return sample.to(tl.int64), program // blocks % tiles * PIXELS, channel


@jit(do_not_specialize=SIZES)
def depthwise_kernel(
    x_ptr, weight_ptr, bias_ptr, y_ptr, height, width, channels, x_batch, x_pixel, weight_batch,
    ALIGN: tl.constexpr, BIAS: tl.constexpr, KERNEL: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write y (B, H, W, C), contiguous. Weights (K*K, C) and bias (C,) belong to each sample if ``weight_batch`` is 1,
    and are shared by all if it is 0."""
    sample, first, channel = tile_place(height, width, channels * ALIGN, PIXELS, CHANNELS)
    channels = channels * ALIGN
    start = x_ptr + sample * (x_batch * ALIGN)
    weight = weight_ptr + sample * weight_batch * channels * (KERNEL * KERNEL)
    y = convolve(start, weight, first, height, width, channel, channels, x_pixel * ALIGN, KERNEL, PIXELS, CHANNELS)
    if BIAS:
        bias = tl.load(bias_ptr + sample * weight_batch * channels + channel, mask=channel < channels, other=0.0)
        y += bias.to(tl.float32)[None, :]
    inside = first + tl.arange(0, PIXELS) < height * width
    y_start = y_ptr + sample * height * width * channels
    store_pixels(y_start, first, inside, channel, channels, channels, y, PIXELS)


@jit(do_not_specialize=SIZES)
def weight_gradient_kernel(
    x_ptr, y_ptr, grad_weight_ptr, grad_bias_ptr, height, width, channels, x_batch, x_pixel, y_batch, y_pixel,
    share, shares,
    ALIGN: tl.constexpr, KERNEL: tl.constexpr, TAPS: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write shares (B, n, K*K, C) and (B, n, C) of the gradients of weight and bias, from the map x and the gradient y
    of the convolved map. A program computes one row of the kernel for ``share`` pixels of a sample."""
    program = tl.program_id(0)
    channels = channels * ALIGN
    blocks = tl.cdiv(channels, CHANNELS)
    channel = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    row = program // blocks % KERNEL
    part = program // blocks // KERNEL % shares
    sample = (program // blocks // KERNEL // shares).to(tl.int64)
    x_start = x_ptr + sample * (x_batch * ALIGN)
    y_start = y_ptr + sample * (y_batch * ALIGN)
    tap = tl.arange(0, TAPS)[:, None]
    grad_weight = tl.zeros((TAPS, CHANNELS), tl.float32)
    grad_bias = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for first in range(part * share, tl.minimum(part * share + share, height * width), PIXELS):
        number = first + tl.arange(0, PIXELS)
        there = number < height * width
        grad = load_pixels(y_start, first, there, channel, channels, y_pixel * ALIGN, PIXELS)
        grad_bias += grad
        for column in tl.static_range(KERNEL):
            dy, dx = row - KERNEL // 2, column - KERNEL // 2
            inside = shifted(number, height, width, dy, dx)
            x = load_pixels(x_start, first + dy * width + dx, inside, channel, channels, x_pixel * ALIGN, PIXELS)
            grad_weight += tl.where(tap == column, tl.sum(grad * x, 0)[None, :], 0.0)
    share_start = (sample * shares + part) * channels
    weight_place = (share_start * KERNEL + row * channels) * KERNEL + tap * channels + channel[None, :]
    mask = (tap < KERNEL) & (channel < channels)[None, :]
    tl.store(grad_weight_ptr + weight_place, grad_weight, mask=mask)
    if row == 0:
        tl.store(grad_bias_ptr + share_start + channel, tl.sum(grad_bias, 0), mask=channel < channels)


def tiles(x: Tensor) -> tuple[int, dict[str, Any]]:
    """Return the number of programs for a map (B, H, W, C), and their compile-time constants."""
    b, height, width, channels = x.shape
    block = power_of_two(min(channels, 64), 16)
    programs = b * -(-height * width // _PIXELS) * -(-channels // block)
    return programs, dict(PIXELS=_PIXELS, CHANNELS=block, num_warps=4, num_stages=1)


def map_strides(x: Tensor, align: int) -> tuple[int, int]:
    """Return the strides of (B, H, W, C) between samples and between pixels, in units of ``align`` elements."""
    return x.stride(0) // align, (x.stride(2) if x.shape[2] > 1 else x.stride(1)) // align


def common_alignment(align: int, channels: int) -> int:
    """Return ``align`` if rows of that many channels preserve it, else 1."""
    return align if channels % align == 0 else 1


def by_tap(weight: Tensor, mirrored: bool = False) -> Tensor:
    """Return weights (C, K, K) or (B, C, K, K) as (K*K, C) or (B, K*K, C), in float32."""
    flat = weight.flatten(-2).float()
    return (flat.flip(-1) if mirrored else flat).mT.contiguous()


def depthwise(x: Tensor, align: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (B, H, W, C) with weights from ``by_tap``: (K*K, C), or (B, K*K, C) per sample."""
    b, height, width, channels = x.shape
    y = x.new_empty(b, height, width, channels)
    programs, constants = tiles(x)
    align = common_alignment(align, channels)
    depthwise_kernel[(programs,)](
        x, weight, weight if bias is None else bias.contiguous(), y, height, width, channels // align,
        *map_strides(x, align), int(weight.ndim == 3),
        ALIGN=align, BIAS=bias is not None, KERNEL=round(weight.shape[-2] ** 0.5), **constants,
    )  # fmt: skip
    return y


def weight_gradient(x: Tensor, grad: Tensor, align: int, kernel: int) -> tuple[Tensor, Tensor]:
    """Gradients of a depthwise convolution's weights (B, C, K, K) and biases (B, C), per sample, in float32."""
    b, height, width, channels = x.shape
    programs, constants = tiles(x)
    blocks = -(-channels // constants["CHANNELS"])
    tiles_per_sample = programs // (b * blocks)
    wanted = -(-programs_wanted(x.device, _PROGRAMS_PER_PROCESSOR) // (b * blocks * kernel))
    share = -(-tiles_per_sample // min(wanted, tiles_per_sample)) * _PIXELS
    shares = -(-height * width // share)
    weight = x.new_empty(b, shares, kernel * kernel, channels, dtype=torch.float32)
    bias = x.new_empty(b, shares, channels, dtype=torch.float32)
    align = common_alignment(align, channels)
    weight_gradient_kernel[(b * shares * kernel * blocks,)](
        x, grad, weight, bias, height, width, channels // align, *map_strides(x, align), *map_strides(grad, align),
        share, shares, ALIGN=align, KERNEL=kernel, TAPS=power_of_two(kernel), **constants,
    )  # fmt: skip
    return weight.sum(1).mT.reshape(b, channels, kernel, kernel), bias.sum(1)
