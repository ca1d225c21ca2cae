"""Deformable attention (Zhu et al., "Deformable DETR", arXiv:2010.04159): what detectors and segmenters share of it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample


def sample_levels(value: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of values sampled bilinearly, zero beyond the border (Deformable DETR, equation 3).

    transformers keeps the samples of all levels side by side before it adds them up, gigabytes for one image of
    800 x 1333 pixels; one level at a time takes a fraction of that, and a seventh off a small step on a CPU.

    Args:
        value: (B, N, heads, width), the tokens of all levels, level by level and row by row.
        shapes: (height, width) of each level.
        places: (B, Q, heads, levels, points, 2) as (x, y) in [0, 1].
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * width), in the dtype of the places.
    """
    batch, _, heads, width = value.shape
    # Levels first, queries last: what is read for a level lies together, and points are added up in long rows.
    grids = (2 * places - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2).contiguous()
    weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2).contiguous()
    parts = value.split([h * w for h, w in shapes], dim=1)
    total = value.new_zeros(())
    for shape, part, grid, weight in zip(shapes, parts, grids.unbind(), weights.unbind()):
        plane = part.flatten(2).transpose(1, 2).reshape(batch * heads, width, *shape)
        # Places have the last word on the dtype: in bfloat16 they would be off by pixels.
        samples = grid_sample(plane.to(grid.dtype), grid, align_corners=False)
        total = total + (samples * weight[:, None]).sum(2)
    return total.view(batch, heads * width, -1).transpose(1, 2)


def look_around(attention: nn.Module) -> None:
    """First weights of one of transformers' deformable attentions, as published.

    Head h samples in direction 2 pi h / heads, its points 1, 2, 3, ... steps away, all weighed alike.
    """
    layer: Any = attention
    for linear in (layer.sampling_offsets, layer.attention_weights):
        nn.init.zeros_(linear.weight)
    for linear in (layer.attention_weights, layer.value_proj, layer.output_proj):
        nn.init.zeros_(linear.bias)
    heads, levels, points = layer.n_heads, layer.n_levels, layer.n_points
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1)
    offsets = directions[:, None, None] * steps[:, None]
    with torch.no_grad():
        layer.sampling_offsets.bias.copy_(offsets.expand(heads, levels, points, 2).flatten())
