"""What a network attends to: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention
from foveal.explain.field_measures import area_ratios, blockiness, effective_radius
from foveal.explain.layers import Layer, branch_layers, cam_layer, stage_layers
from foveal.explain.receptive_field import EffectiveReceptiveField, ReceptiveFields, effective_receptive_field

__all__ = [
    "AttentionMaps",
    "EffectiveReceptiveField",
    "Layer",
    "ReceptiveFields",
    "area_ratios",
    "blockiness",
    "branch_layers",
    "cam_layer",
    "effective_radius",
    "effective_receptive_field",
    "foveal_peripheral_attention",
    "stage_layers",
]
