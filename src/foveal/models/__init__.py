"""The backbones, registered in timm on import. Knows ops and timm."""

from .transnext import TransNeXt

__all__ = ["TransNeXt"]
