"""Small transformers backbones."""

from __future__ import annotations

import torch

from foveal.integrations.transformers import TransNeXtBackbone, TransNeXtConfig, TransXNetBackbone, TransXNetConfig
from support.nets import lively

FAMILIES = ("transnext", "transxnet")
CONFIGS = {"transnext": TransNeXtConfig, "transxnet": TransXNetConfig}
BACKBONES = {"transnext": TransNeXtBackbone, "transxnet": TransXNetBackbone}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def small_config(family: str, **fields):
    """Configuration of the smallest model of a family, by default with the feature maps of all stages."""
    if "out_indices" not in fields:
        fields = {"out_features": STAGES, **fields}
    return CONFIGS[family](**{"model_name": f"{family}_atto", "img_size": 64, **fields})


def small_backbone(family: str, **fields):
    """A backbone in evaluation mode with fixed non-trivial weights."""
    torch.manual_seed(0)
    return lively(BACKBONES[family](small_config(family, **fields))).eval()
