"""What a network sees: arrays first (`attention`), drawing apart (`draw`)."""

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention

__all__ = ["AttentionMaps", "foveal_peripheral_attention"]
