"""Deformable attention: transformers' own, with samples added up level by level; and how its weights begin."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrSelfAttention,
)


class Sampling(nn.Module):
    """Weighted sums of values sampled bilinearly, zero beyond the border (Deformable DETR, equation 3).

    transformers keeps the samples of all levels side by side before it adds them up, gigabytes for one image of
    800 x 1333 pixels; one level at a time takes a fraction of that, and a seventh off a small step on a CPU.
    """

    def forward(
        self,
        value: Tensor,
        spatial_shapes: Tensor,
        spatial_shapes_list: list[tuple[int, int]],
        level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """(B, Q, heads * width) of values (B, N, heads, width); transformers' arguments, not all of them needed.

        Args:
            value: the tokens of all levels.
            spatial_shapes, level_start_index, im2col_step: for other implementations.
            spatial_shapes_list: (height, width) of each level.
            sampling_locations: (B, Q, heads, levels, points, 2) as (x, y) in [0, 1].
            attention_weights: (B, Q, heads, levels, points).
        """
        batch, _, heads, width = value.shape
        # Levels first, queries last: what is read for a level lies together, and points are added up in long rows.
        places = (2 * sampling_locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2).contiguous()
        weights = attention_weights.permute(3, 0, 2, 4, 1).flatten(1, 2).contiguous()
        parts = value.split([h * w for h, w in spatial_shapes_list], dim=1)
        total = value.new_zeros(())
        for shape, part, place, weight in zip(spatial_shapes_list, parts, places.unbind(), weights.unbind()):
            plane = part.flatten(2).transpose(1, 2).reshape(batch * heads, width, *shape)
            # Places have the last word on the dtype: in bfloat16 they would be off by pixels.
            samples = grid_sample(plane.to(place.dtype), place, align_corners=False)
            total = total + (samples * weight[:, None]).sum(2)
        return total.view(batch, heads * width, -1).transpose(1, 2)


def sample_by_level(layer: nn.Module) -> nn.Module:
    """A layer of transformers' Deformable DETR, its attention sampling with ``Sampling``."""
    for module in layer.modules():
        if isinstance(module, DeformableDetrMultiscaleDeformableAttention):
            module.attn = Sampling()  # type: ignore[assignment]
    return layer


def initialise(layers: nn.Module) -> None:
    """Weights of an encoder or decoder as published: matrices by Glorot, deformable attention looks in all directions.

    nn.MultiheadAttention, which DINO was trained with, draws query, key and value as one matrix three times as high,
    and has no bias at the start.
    """
    for parameter in layers.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    for module in layers.modules():
        if isinstance(module, DeformableDetrSelfAttention):
            for linear in (module.q_proj, module.k_proj, module.v_proj):
                nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))
            for linear in (module.q_proj, module.k_proj, module.v_proj, module.o_proj):
                nn.init.zeros_(linear.bias)
        elif isinstance(module, DeformableDetrMultiscaleDeformableAttention):
            _look_around(module)


def _look_around(attention: DeformableDetrMultiscaleDeformableAttention) -> None:
    """Head h samples in direction 2 pi h / heads, its points 1, 2, 3, ... steps away, all weighed alike."""
    for linear in (attention.sampling_offsets, attention.attention_weights):
        nn.init.zeros_(linear.weight)
    for linear in (attention.attention_weights, attention.value_proj, attention.output_proj):
        nn.init.zeros_(linear.bias)
    heads, levels, points = attention.n_heads, attention.n_levels, attention.n_points
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1)
    offsets = directions[:, None, None] * steps[:, None]
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(offsets.expand(heads, levels, points, 2).flatten())
