"""What a network sees: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, WatchedAttention, foveal_peripheral_attention, watch_attention
from foveal.explain.attention_depth import BlockProfile, depth_profile, mean_profile
from foveal.explain.balance import BalancedQuery, most_balanced
from foveal.explain.cam import ActivationMap, WatchedScores, box_score, class_score, region_score, watch_scores
from foveal.explain.dynamic_mixer import BranchEnergy, DynamicKernels, ReducedAttention, WatchedMixers, watch_mixers
from foveal.explain.field_measures import area_ratios, blockiness, effective_radius
from foveal.explain.layers import Layer, branch_layers, cam_layer, stage_layers
from foveal.explain.receptive_field import EffectiveReceptiveField, ReceptiveFields, effective_receptive_field
from foveal.explain.token_grid import mixed_weights, weights_on_image

__all__ = [
    "ActivationMap",
    "AttentionMaps",
    "BalancedQuery",
    "BlockProfile",
    "BranchEnergy",
    "DynamicKernels",
    "EffectiveReceptiveField",
    "Layer",
    "ReceptiveFields",
    "ReducedAttention",
    "WatchedAttention",
    "WatchedMixers",
    "WatchedScores",
    "area_ratios",
    "blockiness",
    "box_score",
    "branch_layers",
    "cam_layer",
    "class_score",
    "depth_profile",
    "effective_radius",
    "effective_receptive_field",
    "foveal_peripheral_attention",
    "mean_profile",
    "mixed_weights",
    "most_balanced",
    "region_score",
    "stage_layers",
    "watch_attention",
    "watch_mixers",
    "watch_scores",
    "weights_on_image",
]
