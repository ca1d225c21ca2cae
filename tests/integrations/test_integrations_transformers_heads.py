"""Transformers' heads on Foveal backbones: odd image sizes, gradients for every parameter, saving and loading."""

import copy
import warnings
from functools import cache

import pytest
import torch
from transformers import (
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from foveal.integrations.transformers.backbone import PyramidBackbone
from support.checkpoints import same_state
from support.hub_backbones import FAMILIES, STAGES, small_config
from support.nets import image, lively

SIZE = (70, 101)
HEADS = ("upernet", "mask2former", "deformable_detr")


def upernet(family):
    config = UperNetConfig(
        backbone_config=small_config(family),
        hidden_size=16,
        pool_scales=[1, 2],
        auxiliary_channels=8,
        auxiliary_in_channels=96,
        num_labels=5,
    )
    return UperNetForSemanticSegmentation(config)


def mask2former(family):
    config = Mask2FormerConfig(
        backbone_config=small_config(family),
        **dict(feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, dim_feedforward=16),
        **dict(encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=6, train_num_points=64),
        num_labels=5,
    )
    return Mask2FormerForUniversalSegmentation(config)


def deformable_detr(family):
    config = DeformableDetrConfig(
        backbone_config=small_config(family, out_features=STAGES[1:]),
        **dict(d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6),
        **dict(encoder_attention_heads=2, decoder_attention_heads=2, num_labels=3),
    )
    return DeformableDetrForObjectDetection(config)


def targets(head):
    """Training targets of each head, for two images."""
    if head == "upernet":
        return dict(labels=torch.randint(0, 5, (2, *SIZE)))
    if head == "mask2former":
        return dict(mask_labels=list(torch.rand(2, 2, *SIZE).round()), class_labels=[torch.tensor([1, 3])] * 2)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.4, 0.2, 0.3]])
    return dict(labels=[dict(class_labels=torch.tensor([1, 2]), boxes=boxes)] * 2)


def outputs(model):
    with torch.no_grad():
        found = model.eval()(image(*SIZE))
    if hasattr(found, "masks_queries_logits"):
        return found.masks_queries_logits, found.class_queries_logits
    return (found.logits, found.pred_boxes) if hasattr(found, "pred_boxes") else (found.logits,)


@cache
def made(head, family):
    """A model shared by all tests; none of them changes its weights."""
    torch.manual_seed(0)
    model = globals()[head](family)
    lively(backbone_of(model))
    return model


def backbone_of(model):
    return next(module for module in model.modules() if isinstance(module, PyramidBackbone))


SHAPES = {
    "upernet": [(1, 5, *SIZE)],
    "mask2former": [(1, 6, 18, 26), (1, 6, 6)],
    "deformable_detr": [(1, 6, 3), (1, 6, 4)],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_every_backbone_parameter_gets_a_gradient(head, family):
    model = copy.deepcopy(made(head, family)).train()
    loss = model(image(*SIZE, batch=2), **targets(head)).loss
    loss.backward()
    assert loss.isfinite()
    found = list(backbone_of(model).named_parameters())
    assert len(found) > 150
    assert [name for name, p in found if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_a_saved_model_is_restored(head, family, tmp_path):
    model = made(head, family)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert same_state(again.state_dict(), model.state_dict())
    assert again.config.backbone_config.arguments == model.config.backbone_config.arguments
    ours, theirs = outputs(model), outputs(copy.deepcopy(again))  # the copy has the memory alignment of the original
    assert [tuple(o.shape) for o in ours] == SHAPES[head]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_head_accepts_attn_implementation(tmp_path):
    """The setting applies to the attention of the head; the backbone must not reject it."""
    made("deformable_detr", "transnext").save_pretrained(tmp_path)
    again = DeformableDetrForObjectDetection.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert again.config._attn_implementation == "sdpa"


def test_gradient_checkpointing_of_a_head_reaches_the_backbone():
    model = copy.deepcopy(made("deformable_detr", "transnext"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # renamed in later releases
        model.gradient_checkpointing_enable()
    assert backbone_of(model).gradient_checkpointing
    assert all(stage.grad_checkpointing for stage in backbone_of(model).net.stages)
