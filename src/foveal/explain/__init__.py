"""What a network attends to: arrays in ``attention``, pictures in ``draw``."""

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention

__all__ = ["AttentionMaps", "foveal_peripheral_attention"]
