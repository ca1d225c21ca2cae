"""The models reproduce the outputs of the authors' code."""

from dataclasses import dataclass, field

import pytest
import timm
import torch

import foveal
from foveal.models import load_checkpoint
from golden.fill import FOLDER, filled_image, stored
from support import plain_transnext, plain_transxnet
from support.accuracy import OUTPUT, relative_error


@dataclass(frozen=True)
class Stored:
    """A stored output with its model, arguments and image shape."""

    file: str
    name: str
    image: tuple[int, ...]
    options: dict = field(default_factory=dict)


LINEAR = dict(pool_size=7, pretrain_size=224)
LOGITS = [
    Stored("transnext_micro_224", "transnext_micro", (1, 3, 224, 224)),
    Stored("transnext_micro_320_pool7", "transnext_micro", (1, 3, 320, 320), LINEAR),
    Stored("transnext_micro_AAAA_256", "transnext_micro_aaaa", (1, 3, 256, 256)),
    Stored("transxnet_t_224", "transxnet_t", (2, 3, 224, 224)),
    Stored("transxnet_t_256x192", "transxnet_t", (1, 3, 256, 192)),
]
MAPS = [
    Stored("det_micro_ext_160x288", "transnext_micro", (1, 3, 160, 288), dict(position_bias="extrapolate")),
    Stored(
        "det_micro_int_160x288", "transnext_micro", (1, 3, 160, 288), dict(position_bias="interpolate", img_size=224)
    ),
]


def through_timm(name, file, **options):
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=str(file)), **options).eval()


def through_load_checkpoint(name, file, **options):
    net = timm.create_model(name, **options).eval()
    assert load_checkpoint(net, file).complete
    return net


def optimized(name, file, **options):
    return foveal.optimize(through_load_checkpoint(name, file, **options), memory=False)


every_way = pytest.mark.parametrize(
    "make", [through_timm, through_load_checkpoint, optimized], ids=["pretrained", "load_checkpoint", "optimized"]
)


def test_every_stored_output_is_tested():
    files = {path.stem for path in FOLDER.glob("*.npy")}
    assert files == {c.file for c in LOGITS} | {f"{c.file}_s{i}" for c in MAPS for i in range(4)}


@every_way
@pytest.mark.parametrize("case", LOGITS, ids=lambda c: c.file)
@torch.no_grad()
def test_logits_match_the_authors_code(case, make, released_file):
    net = make(case.name, released_file(case.name), **case.options)
    assert relative_error(net(filled_image(*case.image)), stored(case.file)) <= OUTPUT


@every_way
@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.file)
@torch.no_grad()
def test_stage_features_match_the_authors_code(case, make, released_file):
    net = make(case.name, released_file(case.name), features_only=True, **case.options)
    for i, found in enumerate(net(filled_image(*case.image))):
        assert relative_error(found[:, ::7, ::3, ::3], stored(f"{case.file}_s{i}")) <= OUTPUT, f"stage {i}"


@torch.no_grad()
def test_one_model_switches_modes_without_rebuilding(released_file):
    net = through_load_checkpoint("transnext_micro", released_file("transnext_micro"))
    net.set_input_size(pool_size=7)
    linear = net(filled_image(1, 3, 320, 320))
    net.set_input_size(pool_size=None)
    normal = net(filled_image(1, 3, 224, 224))
    assert relative_error(linear, stored("transnext_micro_320_pool7")) <= OUTPUT
    assert relative_error(normal, stored("transnext_micro_224")) <= OUTPUT


@torch.no_grad()
def test_plain_transnext_matches_the_authors_code(released_file):
    """Other tests compare with the plain form, so it is checked against the same stored outputs."""
    state = through_load_checkpoint("transnext_micro", released_file("transnext_micro")).state_dict()
    settings = plain_transnext.Settings(position_bias="interpolate")
    for i, found in enumerate(plain_transnext.features(state, filled_image(1, 3, 160, 288), settings)):
        assert relative_error(found[:, ::7, ::3, ::3], stored(f"det_micro_int_160x288_s{i}")) <= OUTPUT, f"stage {i}"


@torch.no_grad()
def test_plain_transxnet_matches_the_authors_code(released_file):
    state = through_load_checkpoint("transxnet_t", released_file("transxnet_t")).state_dict()
    found = plain_transxnet.logits(state, filled_image(1, 3, 256, 192))
    assert relative_error(found, stored("transxnet_t_256x192")) <= OUTPUT
