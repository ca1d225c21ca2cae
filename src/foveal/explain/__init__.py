"""What a network attends to: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, WatchedAttention, foveal_peripheral_attention, watch_attention
from foveal.explain.attention_depth import BlockProfile, depth_profile, mean_profile
from foveal.explain.dynamic_mixer import BranchEnergy, DynamicKernels, ReducedAttention, WatchedMixers, watch_mixers
from foveal.explain.token_grid import mixed_weights, weights_on_image

__all__ = [
    "AttentionMaps",
    "BlockProfile",
    "BranchEnergy",
    "DynamicKernels",
    "ReducedAttention",
    "WatchedAttention",
    "WatchedMixers",
    "depth_profile",
    "foveal_peripheral_attention",
    "mean_profile",
    "mixed_weights",
    "watch_attention",
    "watch_mixers",
    "weights_on_image",
]
