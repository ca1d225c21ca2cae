"""What a network attends to: arrays here, pictures in ``figures``."""

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention

__all__ = ["AttentionMaps", "foveal_peripheral_attention"]
