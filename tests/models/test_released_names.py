"""The tensors of every released checkpoint map one to one to those of the Foveal model, with equal shapes."""

import re

import pytest
import timm
import torch

from foveal.models import transnext, transxnet
from golden.fill import FOLDER, released_names
from support.checkpoints import RELEASED, shallow_net
from support.nets import COMPARED, OURS, ROADMAP, TRANSNEXT, TRANSXNET, on_meta


def our_name(released: str) -> str:
    """The Foveal name of a released tensor, derived independently of the library."""
    head, _, rest = released.partition(".")
    number = int(match[0]) if (match := re.search(r"\d$", head)) else 0
    if head == "head":
        return f"head.fc.{rest}"
    if head.startswith("patch_embed") and number:
        return f"stages.{number - 1}.downsample.{rest}"
    if head.startswith("block"):
        return f"stages.{number - 1}.blocks.{rest.replace('dwconv.dwconv', 'dwconv')}"
    if head.startswith("norm"):
        return f"stages.{number - 1}.norm.{rest}"
    return _our_transxnet_name(head, rest)


def _our_transxnet_name(head: str, rest: str) -> str:
    def downsample(stage: int, name: str) -> str:
        return f"stages.{stage}.downsample." + name.replace("proj.conv", "proj").replace("proj.bn", "norm")

    if head == "patch_embed":
        return downsample(0, rest)
    if head == "relative_pos_enc":
        return f"stages.{rest}.position_bias.table"
    if head == "classifier":
        return ("norm." if rest[0] == "0" else "head.fc.") + rest[2:]
    place, _, name = rest.partition(".")  # even network.N are stages, odd ones the downsampling between them
    return f"stages.{int(place) // 2}.blocks.{name}" if int(place) % 2 == 0 else downsample((int(place) + 1) // 2, name)


@pytest.fixture(scope="module", params=sorted(RELEASED))
def variant(request):
    """Foveal's variant name, the released names with their shapes, and the model on the meta device."""
    return request.param, released_names(RELEASED[request.param]), on_meta(request.param)


def test_every_keys_file_is_tested():
    assert {path.name for path in FOLDER.glob("*.keys.json")} == {f"{file}.keys.json" for file in RELEASED.values()}


def test_names_and_shapes_map_one_to_one(variant):
    _, names, net = variant
    theirs = {our_name(name): tuple(shape) for name, shape in names.items()}
    assert len(theirs) == len(names)
    assert theirs == {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def test_checkpoint_filter_fn_maps_every_tensor(variant):
    name, names, net = variant
    family = transxnet if name.startswith("transxnet") else transnext
    state = {n: torch.empty(shape, device="meta") for n, shape in names.items()}
    found = family.checkpoint_filter_fn(state, net)
    assert len(found) == len(names)
    assert all(found[our_name(n)] is tensor for n, tensor in state.items())


def test_the_registered_models_are_the_documented_ones():
    ours = {*TRANSNEXT, *TRANSXNET, *OURS, *ROADMAP, COMPARED}
    assert set(timm.list_models(["transnext*", "transxnet*"])) == ours


HOMES = {
    "transnext_micro.in1k": ("transnext-micro-224-1k", "transnext_micro_224_1k.pth", 224),
    "transnext_tiny.in1k": ("transnext-tiny-224-1k", "transnext_tiny_224_1k.pth", 224),
    "transnext_small.in1k": ("transnext-small-224-1k", "transnext_small_224_1k.pth", 224),
    "transnext_base.in1k": ("transnext-base-224-1k", "transnext_base_224_1k.pth", 224),
    "transnext_small.in1k_384": ("transnext-small-384-1k-ft-1k", "transnext_small_384_1k_ft_1k.pth", 384),
    "transnext_base.in1k_384": ("transnext-base-384-1k-ft-1k", "transnext_base_384_1k_ft_1k.pth", 384),
    "transnext_micro_aaaa.in1k_256": ("transnext-micro-AAAA-256-1k", "transnext_micro_AAAA_256_1k.pth", 256),
    "transxnet_t.in1k": (None, "transx-t.pth.tar", 224),
    "transxnet_s.in1k": (None, "transx-s.pth.tar", 224),
    "transxnet_b.in1k": (None, "transx-b.pth.tar", 224),
    "transxnet_b.in1k_384": (None, "transx-b-384.pth.tar", 384),
}


@pytest.mark.parametrize("name", HOMES)
def test_default_configurations_name_the_public_sources(name):
    repository, file, size = HOMES[name]
    cfg = timm.get_pretrained_cfg(name)
    if repository:
        assert (cfg.hf_hub_id, cfg.hf_hub_filename) == (f"DaiShiResearch/{repository}", file)
    else:
        assert cfg.url == f"https://github.com/LMMMEng/TransXNet/releases/download/v1.0/{file}"
    assert cfg.input_size == (3, size, size)
    assert cfg.num_classes == 1000


def test_every_pretrained_tag_is_listed():
    assert set(timm.list_pretrained(["transnext*", "transxnet*"])) == set(HOMES)


@pytest.mark.parametrize("name", OURS)
def test_unreleased_variants_have_no_weights(name):
    assert not timm.get_pretrained_cfg(name).has_weights


EVALUATION = {
    "transnext_tiny.in1k": (0.875, "center"),
    "transnext_micro_aaaa.in1k_256": (0.875, "center"),
    "transnext_base.in1k_384": (1.0, "squash"),
    "transxnet_t.in1k": (0.9, "center"),
    "transxnet_s.in1k": (0.9, "center"),
    "transxnet_b.in1k": (0.95, "center"),
    "transxnet_b.in1k_384": (0.95, "center"),
}


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_preprocessing_matches_the_papers(name):
    """Centre crop; TransNeXt squashes the image from 384 pixels up; TransXNet-B keeps its crop (assumed at 384)."""
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    crop = data["crop_pct"], data.get("crop_mode") or "center"
    assert (crop, data["interpolation"]) == (EVALUATION[name], "bicubic")


@pytest.mark.parametrize("tag", ["in1k", "in1k_384"])
def test_transxnet_tables_match_the_input_size_of_the_weights(tag):
    net = on_meta(f"transxnet_b.{tag}")
    side = int(timm.get_pretrained_cfg(f"transxnet_b.{tag}").input_size[-1])
    for i, (stage, sr) in enumerate(zip(net.stages, (8, 4, 2, 1), strict=True)):
        tokens = side // 4 // 2**i
        assert tuple(stage.position_bias.table.shape[2:]) == (tokens**2, (tokens // sr) ** 2)


def test_the_384_tag_of_transnext_keeps_the_pretraining_size():
    with torch.device("meta"):
        net = timm.create_model("transnext_base.in1k_384", device="meta", depths=(1, 1, 1, 1))
    assert net.stages[0].blocks[0].attn.geometry.pretrain == (56, 56)
    assert shallow_net("transnext_micro_aaaa").stages[3].blocks[0].attn.geometry.pretrain == (8, 8)
