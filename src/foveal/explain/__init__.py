"""What a network attends to: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, WatchedAttention, foveal_peripheral_attention, watch_attention
from foveal.explain.attention_depth import BlockProfile, depth_profile, mean_profile
from foveal.explain.token_grid import mixed_weights, weights_on_image

__all__ = [
    "AttentionMaps",
    "BlockProfile",
    "WatchedAttention",
    "depth_profile",
    "foveal_peripheral_attention",
    "mean_profile",
    "mixed_weights",
    "watch_attention",
    "weights_on_image",
]
