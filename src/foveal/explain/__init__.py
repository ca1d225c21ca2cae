"""What a network attends to: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention
from foveal.explain.cam import ActivationMap, WatchedScores, box_score, class_score, region_score, watch_scores
from foveal.explain.field_measures import area_ratios, blockiness, effective_radius
from foveal.explain.layers import Layer, branch_layers, cam_layer, stage_layers
from foveal.explain.receptive_field import EffectiveReceptiveField, ReceptiveFields, effective_receptive_field

__all__ = [
    "ActivationMap",
    "AttentionMaps",
    "EffectiveReceptiveField",
    "Layer",
    "ReceptiveFields",
    "WatchedScores",
    "area_ratios",
    "blockiness",
    "box_score",
    "branch_layers",
    "cam_layer",
    "class_score",
    "effective_radius",
    "effective_receptive_field",
    "foveal_peripheral_attention",
    "region_score",
    "stage_layers",
    "watch_scores",
]
