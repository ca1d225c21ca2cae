"""timm's hub format restores the same model with the same weights in the same mode."""

import pytest
import timm
import torch
from timm.models import save_for_hf

from support.checkpoints import same_state
from support.nets import atto, image


def round_trip(net, folder, **options):
    save_for_hf(net, folder, **options)
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def assert_same_net(again, net, size=(96, 64)):
    assert type(again) is type(net)
    assert same_state(again.state_dict(), net.state_dict())
    x = image(*size, channels=net.in_chans)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))


@pytest.mark.parametrize("safe", [True, False, "both"])
@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_a_model_round_trips_exactly(family, safe, tmp_path):
    net = atto(family)
    assert_same_net(round_trip(net, tmp_path, safe_serialization=safe), net)


OPTIONS = {
    "windows": ("transnext", dict(window_size=(3, 5, 7, 9))),
    "linear mode": ("transnext", dict(pool_size=1)),
    "interpolated bias": ("transnext", dict(position_bias="interpolate", img_size=(128, 64))),
    "pre-trained at 96": ("transnext", dict(pretrain_size=96, length_scaling=False)),
    "one channel, max pooling": ("transnext", dict(in_chans=1, global_pool="max")),
    "without classifier": ("transnext", dict(num_classes=0)),
    "rectangular tables": ("transxnet", dict(img_size=(96, 64))),
    "stage norms": ("transxnet", dict(feature_norm=True, in_chans=4)),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_arguments_round_trip(case, tmp_path):
    family, options = OPTIONS[case]
    net = atto(family, **options)
    assert_same_net(round_trip(net, tmp_path), net)


CHANGES = {
    "to linear mode": ({}, dict(pool_size=1)),
    "to normal mode": (dict(pool_size=1), dict(pool_size=None)),
    "to another img_size": (dict(position_bias="interpolate"), dict(img_size=128)),
    "to interpolation": ({}, dict(position_bias="interpolate", img_size=(96, 128))),
    "to extrapolation": (dict(position_bias="interpolate"), dict(position_bias="extrapolate")),
    "to no length scaling": ({}, dict(length_scaling=False)),
    "to length scaling": (dict(length_scaling=False), dict(length_scaling=True)),
    "to another pre-training size": ({}, dict(pretrain_size=(128, 96))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_by_set_input_size_round_trip(change, tmp_path):
    before, after = CHANGES[change]
    net = atto(**before)
    net.set_input_size(**after)
    assert_same_net(round_trip(net, tmp_path), net)


def test_resized_tables_round_trip(tmp_path):
    net = atto("transxnet")
    net.set_input_size((96, 128))
    again = round_trip(net, tmp_path)
    assert again.img_size == (96, 128)
    assert_same_net(again, net)


def test_a_new_classifier_round_trips(tmp_path):
    net = atto()
    net.reset_classifier(4, "max")
    assert_same_net(round_trip(net, tmp_path), net)
