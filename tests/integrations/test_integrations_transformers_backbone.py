"""Backbones return the feature maps of the timm model, following transformers' conventions, for any image size."""

import copy
import inspect

import pytest
import timm
import torch
from torch import nn
from transformers import AutoBackbone
from transformers.modeling_outputs import BackboneOutput

from foveal.integrations.transformers import TransNeXtBackbone, TransXNetBackbone
from support.hub_backbones import BACKBONES, FAMILIES, STAGES, small_backbone, small_config
from support.nets import image

ODD = (70, 99)  # strides 4 to 32 leave a remainder on both sides


def run(backbone, size=ODD, **kwargs):
    with torch.no_grad():
        return backbone(image(*size, channels=backbone.config.num_channels), **kwargs)


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request):
    return small_backbone(request.param, out_features=["stem", *STAGES])


@pytest.mark.parametrize("family", FAMILIES)
def test_auto_backbone_creates_the_backbone(family):
    assert type(AutoBackbone.from_config(small_config(family))) is BACKBONES[family]


@pytest.mark.parametrize("size", [ODD, (64, 64), (33, 32)])
@pytest.mark.parametrize("family", FAMILIES)
def test_feature_maps_equal_those_of_timm(family, size):
    fields = dict(feature_norm=False) if family == "transxnet" else {}
    backbone = small_backbone(family, **fields)
    net = timm.create_model(f"{family}_atto", features_only=True, img_size=64).eval()
    net.model.load_state_dict(backbone.net.state_dict())
    with torch.no_grad():
        theirs = net(image(*size))
    ours = run(backbone, size).feature_maps
    assert [m.shape[-2:] for m in ours] == [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_each_transxnet_feature_map_has_its_own_norm():
    backbone = small_backbone("transxnet", out_features=["stage2", "stage4"])
    output = run(backbone, output_hidden_states=True)
    for place, feature in zip((2, 4), output.feature_maps, strict=True):
        norm, hidden = backbone.net.stages[place - 1].feature_norm, output.hidden_states[place]
        assert torch.equal(feature, nn.functional.group_norm(hidden, 1, norm.weight, norm.bias))
    assert [name for name, _ in backbone.named_parameters() if "stages.2.feature_norm" in name] == []


def test_the_stem_map_is_the_input_of_the_first_block(backbone):
    taken = []
    hook = backbone.net.stages[0].blocks[0].register_forward_hook(lambda module, args, out: taken.append(args[0]))
    stem = run(backbone).feature_maps[0]
    hook.remove()
    first = taken[0] if taken[0].shape[1] == stem.shape[1] else taken[0].permute(0, 3, 1, 2)
    assert torch.equal(stem, first)


def test_position_bias_and_img_size_are_passed_to_the_model():
    backbone = small_backbone("transnext", position_bias="interpolate", img_size=96)
    net = timm.create_model("transnext_atto", features_only=True).eval()
    net.model.load_state_dict(backbone.net.state_dict())
    net.model.set_input_size(96, position_bias="interpolate")
    with torch.no_grad():
        theirs = net(image(*ODD))
    assert all(torch.equal(a, b) for a, b in zip(run(backbone).feature_maps, theirs, strict=True))
    extrapolated = run(small_backbone("transnext")).feature_maps
    assert not torch.equal(extrapolated[-1], theirs[-1])


def test_the_backbone_has_the_attributes_heads_require(backbone):
    assert backbone.backbone_type.value == "transformers"
    assert backbone.stage_names == ["stem", *STAGES]
    assert backbone.num_features == [24, 24, 48, 96, 192]
    assert (backbone.out_features, backbone.out_indices) == (["stem", *STAGES], [0, 1, 2, 3, 4])
    assert backbone.out_feature_channels == dict(zip(backbone.stage_names, backbone.num_features, strict=True))
    assert backbone.channels == [m.shape[1] for m in run(backbone).feature_maps]
    assert next(iter(inspect.signature(backbone.forward).parameters)) == "pixel_values"


def test_outputs_contain_only_what_was_requested(backbone):
    plain, full = run(backbone), run(backbone, output_hidden_states=True)
    assert isinstance(plain, BackboneOutput)
    assert isinstance(plain.feature_maps, tuple)
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert list(plain) == ["feature_maps"]
    assert [h.shape[1] for h in full.hidden_states] == backbone.num_features
    assert all(torch.equal(a, b) for a, b in zip(plain.feature_maps, full.feature_maps, strict=True))


def test_tuple_outputs_have_the_same_order(backbone):
    (maps,) = run(backbone, return_dict=False)
    again, hidden = run(backbone, return_dict=False, output_hidden_states=True)
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))
    assert len(hidden) == 5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_configuration_sets_the_defaults_of_a_call(family):
    config = small_config(family, output_hidden_states=True, return_dict=False)
    output = run(BACKBONES[family](config).eval())
    assert [len(part) for part in output] == [4, 5]


def test_output_attentions_is_unsupported_and_filtered_for_heads(backbone):
    assert not backbone.has_attentions
    with pytest.raises(ValueError, match="keep no attention: leave output_attentions out"):
        run(backbone, output_attentions=True)
    with torch.no_grad():
        output = backbone.forward_with_filtered_kwargs(image(64, 64), output_attentions=True)
    assert output.attentions is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", ["out_features", "out_indices"])
def test_without_out_features_the_last_map_is_returned(family, change):
    config = copy.deepcopy(small_config(family))
    setattr(config, change, None)
    backbone = BACKBONES[family](config).eval()
    assert backbone.channels == [192]
    assert [m.shape for m in run(backbone).feature_maps] == [(1, 192, 3, 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_out_indices_select_the_same_maps(family):
    end, names = small_backbone(family, out_indices=[-2, -1]), small_backbone(family, out_features=["stage3", "stage4"])
    assert all(torch.equal(a, b) for a, b in zip(run(end).feature_maps, run(names).feature_maps, strict=True))


def test_no_stage_runs_after_the_last_requested_one():
    backbone = small_backbone("transnext", out_features=["stem", "stage2"])
    ran = []
    for i, stage in enumerate(backbone.net.stages):
        stage.blocks[0].register_forward_hook(lambda *_, i=i: ran.append(i))
    run(backbone)
    assert set(ran) == {0, 1}
    run(backbone, output_hidden_states=True)
    assert set(ran) == {0, 1, 2, 3}


def test_a_feature_map_without_its_norm_is_rejected():
    backbone = small_backbone("transxnet", out_features=["stage4"])
    backbone.out_features = ["stage1", "stage4"]
    with pytest.raises(ValueError, match="created without a norm for stage1"):
        run(backbone)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(family):
    backbone = small_backbone(family).train()
    maps = backbone(image(*ODD, batch=2)).feature_maps
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", [TransNeXtBackbone, TransXNetBackbone])
def test_initialisation_matches_timm(kind):
    family = kind.__name__.removesuffix("Backbone").lower()
    torch.manual_seed(3)
    ours = kind(small_config(family)).net.state_dict()
    torch.manual_seed(3)
    theirs = timm.create_model(f"{family}_atto", img_size=64, num_classes=0).state_dict()
    shared = [name for name in theirs if not name.startswith("norm.")]
    assert len(shared) > 100
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(family):
    backbone, calls = small_backbone(family), []

    def recompute(block, *inputs):
        calls.append(block)
        return torch.utils.checkpoint.checkpoint(block, *inputs, use_reentrant=False)

    def gradients():
        backbone.zero_grad()
        sum((m**2).sum() for m in backbone(image(*ODD)).feature_maps).backward()
        return [p.grad.clone() for p in backbone.parameters()]

    plain = gradients()
    backbone._set_gradient_checkpointing(True, recompute)
    assert backbone.gradient_checkpointing
    again = gradients()
    assert len(calls) == 6  # one per block: 1 + 1 + 3 + 1
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)
    backbone._set_gradient_checkpointing(False)
    assert not backbone.gradient_checkpointing
