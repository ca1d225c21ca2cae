"""Deformable attention: transformers' own, with samples added up level by level; and how its weights begin."""

import math

from torch import Tensor, nn
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrSelfAttention,
)

from foveal.tasks.dense.detr import init_deformable_attention, sample_levels
from foveal.tasks.detection.dino import Settings


class Sampling(nn.Module):
    """``sample_levels`` with the arguments that transformers gives to its sampling; it needs not all of them."""

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
        """(B, Q, heads * width); see ``sample_levels``."""
        return sample_levels(value, spatial_shapes_list, sampling_locations, attention_weights)


def layer_config(settings: Settings) -> DeformableDetrConfig:
    """Return the configuration of transformers' encoder and decoder layers; its other fields are not used."""
    return DeformableDetrConfig(
        d_model=settings.dim,
        num_feature_levels=settings.num_levels,
        encoder_attention_heads=settings.heads,
        decoder_attention_heads=settings.heads,
        encoder_n_points=settings.points,
        decoder_n_points=settings.points,
        encoder_ffn_dim=settings.mlp_dim,
        decoder_ffn_dim=settings.mlp_dim,
        dropout=0.0,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


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
            init_deformable_attention(module)
