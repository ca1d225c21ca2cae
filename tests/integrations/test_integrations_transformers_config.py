"""Configurations select the model and its feature maps, are validated on creation, and survive a save and load."""

import pytest
import timm
import torch
from transformers import AutoConfig

from foveal import FovealError
from foveal.integrations.transformers import TransNeXtConfig, TransXNetConfig
from support.hub_backbones import CONFIGS, FAMILIES, small_config

NAMES = ["stem", "stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_configuration_returns_the_last_of_four_stages(family):
    config = CONFIGS[family]()
    assert config.stage_names == NAMES
    assert (config.out_features, config.out_indices) == (["stage4"], [4])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("asked", "features", "indices"),
    [
        (dict(out_features=None, out_indices=None), ["stage4"], [4]),
        (dict(out_features=["stem", "stage1"], out_indices=[0, 1]), ["stem", "stage1"], [0, 1]),
        (dict(out_features=["stage1", "stage3"]), ["stage1", "stage3"], [1, 3]),
        (dict(out_indices=[0, 2]), ["stem", "stage2"], [0, 2]),
        (dict(out_indices=(1, 4)), ["stage1", "stage4"], [1, 4]),
        (dict(out_indices=[-2, -1]), ["stage3", "stage4"], [-2, -1]),
    ],
)
def test_out_features_and_out_indices_are_aligned(family, asked, features, indices):
    config = CONFIGS[family](model_name=f"{family}_atto", **asked)
    assert (config.out_features, config.out_indices) == (features, indices)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "asked",
    [
        dict(out_features=["stage1", "stage2"], out_indices=[0, 2]),
        dict(out_features=["stage5"]),
        dict(out_features=["stage2", "stage1"]),
        dict(out_features=["stage1", "stage1"]),
        dict(out_indices=[5]),
    ],
)
def test_invalid_out_features_and_out_indices_are_rejected(family, asked):
    with pytest.raises(ValueError, match="out_"):
        CONFIGS[family](model_name=f"{family}_atto", **asked)


def test_out_features_and_out_indices_can_be_changed_later():
    config = small_config("transnext")
    config.out_features = ["stage2"]
    assert config.out_indices == [2]
    config.out_indices = [1, 3]
    assert config.out_features == ["stage1", "stage3"]
    config.out_features = None
    assert config.out_features == ["stage4"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: TransNeXtConfig(model_name="resnet50"),
            "TransNeXtConfig has no model 'resnet50': choose one of tr.*tiny",
        ),
        (lambda: TransNeXtConfig(model_name="transxnet_t"), "TransNeXtConfig has no model 'transxnet_t'"),
        (lambda: TransXNetConfig(model_name="transnext_tiny"), "TransXNetConfig has no model 'transnext_tiny'"),
        (
            lambda: TransNeXtConfig(model_name="transnext_tiny.in22k"),
            "transnext_tiny.in22k cannot be created like this: .*in22k",
        ),
        (
            lambda: small_config("transnext", window_size=4),
            "transnext_atto cannot be created like this: window_size must be odd",
        ),
        (lambda: small_config("transnext", pool_size=9), "pool_size 9 x 9 must be smaller than"),
        (lambda: small_config("transnext", position_bias="resize"), 'position_bias must be "extrapolate" or "interp'),
        (lambda: small_config("transxnet", img_size=16), "img_size must be at least 32 x 32, got 16 x 16.$"),
    ],
)
def test_invalid_models_raise_a_one_line_error(make, sentence):
    with pytest.raises(FovealError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


FIELDS = {
    "transnext": dict(window_size=(3, 3, 5, 3), pool_size=1, position_bias="interpolate", length_scaling=False),
    "transxnet": dict(img_size=(96, 64), feature_norm=False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_configuration_is_restored(family, tmp_path):
    config = small_config(
        family, **FIELDS[family], drop_path_rate=0.25, num_channels=4, out_features=["stage1", "stage3"]
    )
    config.save_pretrained(tmp_path)
    for again in (type(config).from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(again) is type(config)
        assert again.arguments == config.arguments
        assert (again.out_features, again.out_indices) == (["stage1", "stage3"], [1, 3])
        assert {k: v for k, v in again.to_dict().items() if k != "_name_or_path"} == jsonable(config)


def jsonable(config):
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in config.to_dict().items()}
    return {name: v for name, v in plain.items() if name != "_name_or_path"}


def test_out_features_can_be_overridden_when_loading(tmp_path):
    small_config("transnext", out_features=["stage1"]).save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path, out_features=["stage2", "stage4"])
    assert again.out_indices == [2, 4]


@pytest.mark.parametrize(("family", "name"), [("transnext", "transnext_base"), ("transxnet", "transxnet_s")])
def test_hidden_sizes_are_the_channels_of_the_model(family, name):
    with torch.device("meta"):
        channels = timm.create_model(
            name, features_only=True, device="meta", depths=(1, 1, 1, 1)
        ).feature_info.channels()
    config = CONFIGS[family](model_name=name)
    assert (config.hidden_sizes, config.hidden_size) == (channels, channels[-1])
