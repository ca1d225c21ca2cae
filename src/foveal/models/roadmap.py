"""The steps from PVT to TransNeXt (section 4.2 of the TransNeXt paper), as models of timm.

Step 0 is ``pvt_tiny``, step 1 timm's ``pvt_v2_b1``, step 8 ``transnext_micro``. The steps between them have the widths
and depths of TransNeXt-Micro and change one part each. No weights were released.
"""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model

from .registration import build_backbone, classification_cfg
from .transnext import TransNeXt

default_cfgs = generate_default_cfgs(
    {f"transnext_roadmap_{step}.untrained": classification_cfg() for step in range(2, 8)}
)


def _create(step: int, pretrained: bool, settings: dict[str, Any], **defaults: Any) -> TransNeXt:
    return build_backbone(TransNeXt, f"transnext_roadmap_{step}", pretrained, settings, **defaults)


@register_model
def transnext_roadmap_2(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """PVTv2, deeper and thinner: its attention and its convolutional MLP with heads of 48 channels."""
    return _create(2, pretrained, kwargs, token_mixers="SSSS", channel_mixer="conv_mlp", head_dim=48)


@register_model
def transnext_roadmap_3(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """Step 2 with heads of 24 channels."""
    return _create(3, pretrained, kwargs, token_mixers="SSSS", channel_mixer="conv_mlp")


@register_model
def transnext_roadmap_4(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """Step 3 with GLU as channel mixer."""
    return _create(4, pretrained, kwargs, token_mixers="SSSS", channel_mixer="glu")


@register_model
def transnext_roadmap_5(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """Step 4 with convolutional GLU."""
    return _create(5, pretrained, kwargs, token_mixers="SSSS")


@register_model
def transnext_roadmap_6(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """Step 5 with pixel-focused attention, and self-attention in the last stage."""
    return _create(6, pretrained, kwargs, positional_attention=False, query_embedding=False)


@register_model
def transnext_roadmap_7(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """Step 6 with positional attention."""
    return _create(7, pretrained, kwargs, query_embedding=False)
