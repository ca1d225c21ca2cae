"""The network in which the TransXNet paper compares token mixers (section IV-D, table VI), as a model of timm.

No weights were released.
"""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model

from .registration import build_backbone, classification_cfg
from .transxnet import TransXNet

default_cfgs = generate_default_cfgs({"transxnet_mixers.untrained": classification_cfg()})


@register_model
def transxnet_mixers(pretrained: bool = False, **kwargs: Any) -> TransXNet:
    """TransXNet-T in the style of Swin-T: the row "D-Mixer". ``token_mixer`` makes the others.

    Patches of the first embedding do not overlap, blocks have a plain FFN and neither DPE nor layer scale. The paper
    says no more than "non-overlapping patch embedding and vanilla FFN"; the rest is what its figures ask for.
    """
    sizes = dict(depths=(2, 2, 6, 2), embed_dims=(64, 128, 256, 512), embed_kernels=(4, 3, 3, 3))
    parts = dict(ffn_kernels=(), ffn_norm=False, position_encoding=False, layer_scale=False)
    return build_backbone(TransXNet, "transxnet_mixers", pretrained, kwargs, **sizes, **parts)
