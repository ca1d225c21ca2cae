"""MMSegmentation's heads as formulas on a dict with its names: UPerHead, FCNHead, FPN with FPNHead.

Resizing and pooling are written out so that sampling conventions are explicit. Dropout is omitted.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, h, w) to (B, C, *size) with `align_corners=False`."""
    rows, columns = (_between_centres(a, b).to(x) for a, b in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.T


def _between_centres(old: int, new: int) -> Tensor:
    """(new, old): weight of each old pixel in a new one."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        place = max((i + 0.5) * old / new - 0.5, 0.0)
        first = min(math.floor(place), old - 1)
        weights[i, first] += 1 - (place - first)
        weights[i, min(first + 1, old - 1)] += place - first
    return weights


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = ([i * old // new for i in range(new)] for old, new in zip(x.shape[-2:], size, strict=True))
    return x[..., rows, :][..., columns]


def pooled(x: Tensor, side: int) -> Tensor:
    """Means over side x side cells that cover the map and overlap if side does not divide its size."""
    height, width = x.shape[-2:]
    rows, columns = ([(i * n // side, -(-(i + 1) * n // side)) for i in range(side)] for n in (height, width))
    means = [[x[..., a:b, c:d].mean((-2, -1)) for c, d in columns] for a, b in rows]
    return torch.stack([torch.stack(row, -1) for row in means], -2)


def conv_module(state: State, name: str, x: Tensor, training: bool) -> Tensor:
    """Convolution with the same output size, batch norm (batch statistics in training), ReLU."""
    kernel = state[f"{name}.conv.weight"].to(x)
    x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    mean, var = state[f"{name}.bn.running_mean"].to(x), state[f"{name}.bn.running_var"].to(x)
    if training:
        mean = x.mean((0, 2, 3))
        var = (x - mean[:, None, None]).square().mean((0, 2, 3))
    weight, bias = state[f"{name}.bn.weight"].to(x), state[f"{name}.bn.bias"].to(x)
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return (x * weight[:, None, None] + bias[:, None, None]).clamp(min=0)


def convolution(state: State, name: str, x: Tensor) -> Tensor:
    kernel = state[f"{name}.weight"].to(x)
    return F.conv2d(x, kernel, state[f"{name}.bias"].to(x), padding=kernel.shape[-1] // 2)


def upernet(state: State, maps: list[Tensor], training: bool = False) -> Tensor:
    """Logits at stride 4 (UPerHead)."""
    last = maps[-1]
    context = [last]
    for i, scale in enumerate((1, 2, 3, 6)):
        small = conv_module(state, f"decode_head.psp_modules.{i}.1", pooled(last, scale), training)
        context.append(bilinear(small, last.shape[-2:]))
    joined = [conv_module(state, "decode_head.bottleneck", torch.cat(context, 1), training)]
    for i in (2, 1, 0):
        lateral = conv_module(state, f"decode_head.lateral_convs.{i}", maps[i], training)
        joined.insert(0, lateral + bilinear(joined[0], lateral.shape[-2:]))
    outputs = [conv_module(state, f"decode_head.fpn_convs.{i}", joined[i], training) for i in range(3)]
    outputs = [bilinear(x, maps[0].shape[-2:]) for x in (*outputs, joined[3])]
    final = conv_module(state, "decode_head.fpn_bottleneck", torch.cat(outputs, 1), training)
    return convolution(state, "decode_head.conv_seg", final)


def fcn(state: State, maps: list[Tensor], training: bool = False) -> Tensor:
    """Logits at stride 16 (FCNHead, the auxiliary head)."""
    return convolution(
        state, "auxiliary_head.conv_seg", conv_module(state, "auxiliary_head.convs.0", maps[2], training)
    )


def semantic_fpn(state: State, maps: list[Tensor], training: bool = False) -> Tensor:
    """Logits at stride 4 (FPN and FPNHead)."""
    joined = [convolution(state, "neck.lateral_convs.3.conv", maps[3])]
    for i in (2, 1, 0):
        lateral = convolution(state, f"neck.lateral_convs.{i}.conv", maps[i])
        joined.insert(0, lateral + nearest(joined[0], lateral.shape[-2:]))
    levels = [convolution(state, f"neck.fpn_convs.{i}.conv", x) for i, x in enumerate(joined)]
    total = conv_module(state, "decode_head.scale_heads.0.0", levels[0], training)
    for i in (1, 2, 3):
        x = levels[i]
        for step in range(i):
            x = conv_module(state, f"decode_head.scale_heads.{i}.{2 * step}", x, training)
            x = bilinear(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        total = total + bilinear(x, total.shape[-2:])
    return convolution(state, "decode_head.conv_seg", total)


def cross_entropy(logits: Tensor, labels: Tensor, ignored: int = 255) -> Tensor:
    """Cross entropy of logits (B, C, h, w) and labels (B, H, W), divided by the number of all pixels."""
    logits = bilinear(logits, labels.shape[-2:])
    shares = logits - logits.exp().sum(1, keepdim=True).log()
    chosen = [-shares[b, label, i, j] for (b, i, j), label in _pixels(labels) if label != ignored]
    return sum(chosen, torch.zeros((), dtype=logits.dtype)) / labels.numel()


def _pixels(labels: Tensor):
    return (((b, i, j), labels[b, i, j].item()) for b, i, j in torch.ones_like(labels).nonzero().tolist())
