"""Saved weights are restored bit for bit in every format of transformers; released weights can be loaded too."""

import importlib
import sys
from inspect import signature

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoBackbone

import foveal
from foveal import FovealError
from foveal.integrations.transformers import load_released, register
from golden.fill import filled_state
from support.checkpoints import same_state, snapshot
from support.hub_backbones import BACKBONES, CONFIGS, FAMILIES, STAGES, small_backbone, small_config
from support.nets import image, lively

WEIGHTS = "model.safetensors"


def maps(backbone, dtype=torch.float32):
    with torch.no_grad():
        return backbone.eval()(image(70, 99, channels=backbone.config.num_channels).to(dtype)).feature_maps


def assert_same(again, backbone):
    assert type(again) is type(backbone)
    assert same_state(again.state_dict(), backbone.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(maps(again), maps(backbone), strict=True))


NETWORKS = ["transnext_atto", "transnext_micro", "transxnet_atto"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_backbone_is_restored(name, tmp_path):
    family = name.partition("_")[0]
    backbone = lively(BACKBONES[family](CONFIGS[family](model_name=name, out_features=STAGES)))
    backbone.save_pretrained(tmp_path)
    assert_same(AutoBackbone.from_pretrained(tmp_path), backbone)


FIELDS = {
    "interpolated bias": ("transnext", dict(position_bias="interpolate", img_size=(96, 64))),
    "linear mode, window sizes": ("transnext", dict(pool_size=1, window_size=[3, 5, 3, 3], length_scaling=False)),
    "pre-trained at 128": ("transnext", dict(pretrain_size=128, num_channels=1)),
    "rectangular tables": ("transxnet", dict(img_size=[96, 64])),
    "no norms": ("transxnet", dict(feature_norm=False, num_channels=4)),
    "stem and one stage": ("transxnet", dict(out_indices=[0, 3])),
}


@pytest.mark.parametrize("case", FIELDS)
def test_configuration_fields_are_restored_with_the_backbone(case, tmp_path):
    family, fields = FIELDS[case]
    backbone = small_backbone(family, **fields)
    backbone.save_pretrained(tmp_path)
    assert_same(AutoBackbone.from_pretrained(str(tmp_path)), backbone)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_class_loads_sharded_weights_and_reports_loading_info(family, tmp_path):
    backbone = small_backbone(family)
    backbone.save_pretrained(tmp_path, max_shard_size="400KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again, report = BACKBONES[family].from_pretrained(tmp_path, output_loading_info=True)
    assert_same(again, backbone)
    assert not any(report.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_channels_last_weights_can_be_saved(family, tmp_path):
    backbone = small_backbone(family).to(memory_format=torch.channels_last)
    backbone.save_pretrained(tmp_path)
    assert same_state(AutoBackbone.from_pretrained(tmp_path).state_dict(), backbone.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_in_half_precision_converts_only_the_weights(family, tmp_path):
    backbone = small_backbone(family, drop_path_rate=0.3)
    backbone.save_pretrained(tmp_path)
    half = AutoBackbone.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert drop_paths(half) == drop_paths(backbone)
    assert_same_maps = zip(maps(half, torch.bfloat16), maps(backbone.to(torch.bfloat16), torch.bfloat16), strict=True)
    assert all(torch.equal(a, b) and a.dtype == torch.bfloat16 for a, b in assert_same_maps)
    assert torch.get_default_dtype() == torch.float32


def drop_paths(backbone):
    return [block.drop_path.drop_prob for stage in backbone.net.stages for block in stage.blocks]


def test_out_features_can_be_overridden_when_loading(tmp_path):
    backbone = small_backbone("transnext")
    backbone.save_pretrained(tmp_path)
    again = AutoBackbone.from_pretrained(tmp_path, out_features=["stage2"])
    assert torch.equal(maps(again)[0], maps(backbone)[1])


MISSING = {  # removed tensors and their initial values
    "transnext": {
        "net.stages.0.blocks.0.attn.learnable_bias": 0.0,
        "net.stages.1.blocks.0.norm1.weight": 1.0,
        "net.stages.1.blocks.0.norm1.bias": 0.0,
        "net.stages.2.blocks.1.mlp.fc1.bias": 0.0,
    },
    "transxnet": {
        "net.stages.0.position_bias.table": 0.0,
        "net.stages.1.blocks.0.layer_scale_1.weight": 1e-5,
        "net.stages.2.blocks.0.mlp.norm.running_var": 1.0,
        "net.stages.3.feature_norm.weight": 1.0,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_tensors_are_initialised_and_the_others_loaded(family, tmp_path):
    backbone = small_backbone(family)
    backbone.save_pretrained(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    kept = {name: t for name, t in saved.items() if name not in MISSING[family]}
    assert len(kept) == len(saved) - len(MISSING[family])
    save_file(kept, tmp_path / WEIGHTS, metadata={"format": "pt"})
    again = AutoBackbone.from_pretrained(tmp_path).state_dict()
    assert same_state({name: again[name] for name in kept}, kept)
    for name, value in MISSING[family].items():
        assert torch.equal(again[name], torch.full_like(again[name], value)), name


SPREAD = {"transnext": (2 / (7 * 7 * 24)) ** 0.5, "transxnet": 0.02}  # std of the first convolution


@pytest.mark.parametrize("family", FAMILIES)
def test_a_first_convolution_of_another_shape_is_initialised_in_half_precision(family, tmp_path):
    backbone = small_backbone(family)
    backbone.save_pretrained(tmp_path)
    again = AutoBackbone.from_pretrained(
        tmp_path, num_channels=64, dtype=torch.bfloat16, ignore_mismatched_sizes=True
    ).state_dict()
    first = [name for name, tensor in again.items() if tensor.shape != backbone.state_dict()[name].shape]
    assert len(first) == 1
    drawn = again.pop(first[0]).float()
    assert drawn.abs().max() < 6 * drawn.std()
    assert drawn.std().item() == pytest.approx(SPREAD[family], rel=0.05)
    assert same_state(
        again, {name: t.to(again[name].dtype) for name, t in backbone.state_dict().items() if name in again}
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_meta_device_backbone_can_be_initialised(family):
    with torch.device("meta"):
        backbone = AutoBackbone.from_config(small_config(family))
    assert all(tensor.is_meta for tensor in backbone.state_dict().values())
    backbone = backbone.to_empty(device="cpu")
    for tensor in backbone.state_dict().values():
        tensor.fill_(7)
    backbone.init_weights()
    assert [name for name, tensor in backbone.state_dict().items() if (tensor == 7).any()] == []
    fresh = dict(BACKBONES[family](small_config(family)).named_parameters())
    large = [(p, fresh[name]) for name, p in backbone.named_parameters() if p.numel() > 2000]
    assert len(large) > 20
    assert all(drawn.std().item() == pytest.approx(like.std().item(), rel=0.2) for drawn, like in large)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_buffers_are_in_the_state_dict(family):
    """Transformers creates models on the meta device, so any other buffer would be uninitialised after loading."""
    backbone = small_backbone(family)
    assert {name for name, _ in backbone.named_buffers()} <= set(backbone.state_dict())
    plain = [v for m in backbone.modules() for k, v in vars(m).items() if isinstance(v, torch.Tensor) and k[0] != "_"]
    assert plain == []


def test_other_model_types_are_loaded_by_transformers(tmp_path, monkeypatch):
    asked = []
    theirs = classmethod(lambda cls, *args, **kwargs: asked.append((cls, args, kwargs)) or "theirs")
    monkeypatch.setattr(AutoBackbone.__base__, "from_pretrained", theirs)
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    assert AutoBackbone.from_pretrained(tmp_path, out_indices=[1]) == "theirs"
    assert AutoBackbone.from_pretrained("microsoft/resnet-50", use_timm_backbone=True) == "theirs"
    assert asked == [
        (AutoBackbone, (tmp_path,), dict(out_indices=[1])),
        (AutoBackbone, ("microsoft/resnet-50",), dict(use_timm_backbone=True)),
    ]


def test_registering_twice_has_no_effect():
    before = AutoBackbone.from_pretrained
    register()
    assert AutoBackbone.from_pretrained == before
    assert [*signature(before).parameters] == [*signature(AutoBackbone.__base__.from_pretrained).parameters]


def test_loading_accepts_the_arguments_of_auto_backbone(tmp_path):
    backbone = small_backbone("transnext")
    backbone.save_pretrained(tmp_path / "inner")
    again = AutoBackbone.from_pretrained(tmp_path, subfolder="inner", use_timm_backbone=False, code_revision=None)
    assert_same(again, backbone)


RELEASED = {"transnext": "transnext_micro", "transxnet": "transxnet_t"}


@pytest.fixture(scope="module", params=FAMILIES)
def released(request, tmp_path_factory):
    """A checkpoint in the released format, a matching backbone, and the timm model's state dict after loading it."""
    name = RELEASED[request.param]
    file = tmp_path_factory.mktemp("released") / f"{name}.pth"
    torch.save(filled_state(name), file)
    net = timm.create_model(name, features_only=True)
    foveal.load_checkpoint(net, file)
    backbone = BACKBONES[request.param](CONFIGS[request.param](model_name=name, out_features=STAGES))
    return file, backbone, net.model.state_dict()


@pytest.mark.parametrize("home", ["file", "download"])
def test_released_weights_are_loaded_and_leave_the_feature_norms_unchanged(released, home):
    file, backbone, theirs = released
    backbone.load_state_dict({name: torch.full_like(t, 7) for name, t in backbone.state_dict().items()})
    if home == "file":
        load_released(backbone, file)
    else:
        backbone.net.pretrained_cfg = {**backbone.net.pretrained_cfg, "file": str(file)}  # instead of a download
        load_released(backbone)
    ours = backbone.net.state_dict()
    norms = [name for name in ours if ".feature_norm." in name]
    assert len(norms) == (8 if "transxnet" in backbone.config.model_name else 0)
    assert same_state({name: t for name, t in ours.items() if name not in norms}, theirs)
    assert all((ours[name] == 7).all() for name in norms)


def test_a_mismatched_checkpoint_changes_nothing(released):
    file, *_ = released
    other = "transxnet" if "transnext" in file.name else "transnext"
    backbone = small_backbone(other)
    before = snapshot(backbone)
    with pytest.raises(FovealError, match=file.name):
        load_released(backbone, file)
    assert same_state(snapshot(backbone), before)


def test_load_errors_are_one_line(monkeypatch):
    backbone = small_backbone("transnext")
    with pytest.raises(FovealError, match="no released weights of transnext_atto: choose another model, or pass a fil"):
        load_released(backbone)
    with pytest.raises(FovealError, match="this Linear has 0: pass the backbone itself"):
        load_released(nn.Linear(2, 2))
    with pytest.raises(FovealError, match="this ModuleList has 2"):
        load_released(nn.ModuleList([backbone, small_backbone("transxnet")]))

    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("foveal.integrations.transformers.backbone.load_pretrained", unreachable)
    backbone.net.pretrained_cfg = {**backbone.net.pretrained_cfg, "url": "https://weights.example"}
    with pytest.raises(
        FovealError, match=r"transnext_atto cannot be fetched \(no route to host\): check the connection"
    ):
        load_released(backbone)


def test_missing_transformers_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "foveal.integrations.transformers")
    with pytest.raises(FovealError, match=r"needs transformers: install it with `pip install 'foveal\[dense\]'`\.$"):
        importlib.import_module("foveal.integrations.transformers")
