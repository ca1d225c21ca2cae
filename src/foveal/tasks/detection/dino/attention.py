"""Deformable attention as DINO begins with it."""

import math

import torch
from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrSelfAttention,
)


def lean(layer):
    return layer


def initialise(layers: nn.Module) -> None:
    """Weights of an encoder or decoder as published: matrices by Glorot, deformable attention looking in all directions.

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
