"""Loading weights: completely or not at all, from any wrapping, with a one-line error if they do not fit."""

import argparse
import math
import os
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from foveal import FovealError, load_checkpoint
from foveal.models.load_report import CheckpointError, LoadReport, Problem
from foveal.models.weights_file import WeightsFile
from foveal.training.start import Start
from support.accuracy import assert_same
from support.checkpoints import same_state, shallow_net, snapshot
from support.nets import image

FAMILIES = ("transnext_micro", "transxnet_t")
every_family = pytest.mark.parametrize("name", FAMILIES)


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def noise(state):
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def training_leftovers():
    """What trainers save along with the weights."""
    net = nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.zeros(1, 2)).sum().backward()
    optimiser.step()
    return {
        "optimizer": optimiser.state_dict(),
        "epoch": 300,
        "metric": 84.0,
        "arch": "a",
        "rng": torch.get_rng_state(),
    }


WRAPPINGS = {
    "state dict": lambda s: s,
    "ordered dict": OrderedDict,
    "model": lambda s: {"model": s},
    "model with training state": lambda s: {"model": s, **training_leftovers()},
    "state_dict": lambda s: {"state_dict": s, "meta": {"version": "1.0", "CLASSES": ["cat", "dog"]}},
    "state_dict_ema before state_dict": lambda s: {"state_dict": noise(s), "state_dict_ema": s},
    "model_ema before model": lambda s: {"model": noise(s), "model_ema": s},
    "ema": lambda s: {"ema": s},
    "ema_state_dict": lambda s: {"ema_state_dict": s},
    "weights": lambda s: {"weights": s, "epoch": 3},
    "params": lambda s: {"params": s},
    "params_ema before params": lambda s: {"params": noise(s), "params_ema": s},
    "model_weights": lambda s: {"model_weights": prefixed(s, "module.")},
    "model before weights of the loss": lambda s: {"model": s, "weights": {"loss": torch.ones(3)}},
    "a defaultdict": lambda s: defaultdict(dict, s),
    "a defaultdict in a dictionary": lambda s: {"model": defaultdict(list, s)},
    "nested": lambda s: {"model": {"state_dict": s}},
    "module.": lambda s: prefixed(s, "module."),
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(7), **prefixed(s, "module.")},
    "model_ema with module.": lambda s: {"model_ema": prefixed(s, "module.")},
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "compiled in DDP": lambda s: prefixed(s, "module._orig_mod."),
    "model.": lambda s: {"state_dict": prefixed(s, "model.")},
    "model_state_dict": lambda s: {"model_state_dict": s, **training_leftovers()},
    "model_state": lambda s: {"model_state": s},
    "net": lambda s: {"net": s, "acc": 93.0, "epoch": 7},
    "network": lambda s: {"network": s},
    "DeepSpeed": lambda s: {"module": s, **training_leftovers()},
    "ema with its shadow": lambda s: {"model": noise(s), "ema": {"decay": 0.999, "shadow": s}},
    "teacher beside student": lambda s: {"student": noise(s), "teacher": s},
    "teacher beside student in names": lambda s: {**prefixed(noise(s), "student."), **prefixed(s, "teacher.backbone.")},
    "student": lambda s: {"student": prefixed(s, "module.backbone.")},
    "encoder": lambda s: {"encoder": s, "decoder": {"weight": torch.ones(2)}},
    "encoder.": lambda s: {**prefixed(s, "encoder."), "decoder.0.weight": torch.ones(2)},
    "net.": lambda s: {"state_dict": prefixed(s, "net.")},
    "network.module.": lambda s: prefixed(s, "network.module."),
    "model.module.": lambda s: {"model_state_dict": prefixed(s, "model.module.")},
    "compiled in Lightning": lambda s: {
        "state_dict": {**prefixed(s, "model._orig_mod."), "criterion.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": np.float64(0.1), "data": Path("images")},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "dirpath": "a"}},
    },
    "Lightning with an average": lambda s: {
        "state_dict": {
            **prefixed(noise(s), "model."),
            "ema_model.n_averaged": torch.tensor(9),
            **prefixed(s, "ema_model.module."),
        }
    },
    "encoder. in DDP": lambda s: {"model": prefixed(s, "module.encoder.")},
    "backbone.": lambda s: prefixed(s, "backbone."),
    "module.backbone.": lambda s: {"state_dict": prefixed(s, "module.backbone.")},
}


@every_family
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_loads_completely(name, wrapping, shallow, loaded, tmp_path):
    torch.save(WRAPPINGS[wrapping](shallow(name)), tmp_path / "file.pth")
    net = shallow_net(name)
    report = load_checkpoint(net, tmp_path / "file.pth")
    assert report.complete
    assert set(report.loaded) == set(net.state_dict())
    assert same_state(net.state_dict(), loaded(name))


@every_family
@pytest.mark.parametrize(
    "wrapping", ["model", "state_dict", "state_dict_ema before state_dict", "module.", "backbone."]
)
def test_every_wrapping_loads_through_timm(name, wrapping, shallow, loaded, tmp_path):
    torch.save(WRAPPINGS[wrapping](shallow(name)), tmp_path / "file.pth")
    overlay = dict(file=str(tmp_path / "file.pth"))
    net = shallow_net(name, pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_state(net.state_dict(), loaded(name))


@every_family
@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_load(name, prefix, shallow, loaded, tmp_path):
    save_file(prefixed(shallow(name), prefix), tmp_path / "model.safetensors")
    net = shallow_net(name)
    assert load_checkpoint(net, tmp_path / "model.safetensors").complete
    assert same_state(net.state_dict(), loaded(name))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pth.tar", ".bin"])
def test_the_old_file_format_loads(suffix, shallow, loaded, tmp_path):
    torch.save(shallow(FAMILIES[0]), tmp_path / f"file{suffix}", _use_new_zipfile_serialization=False)
    net = shallow_net(FAMILIES[0])
    load_checkpoint(net, tmp_path / f"file{suffix}")
    assert same_state(net.state_dict(), loaded(FAMILIES[0]))


HEADS = {
    "detector": {"neck.lateral_convs.0.conv.weight": torch.ones(2), "rpn_head.rpn_cls.bias": torch.ones(1)},
    "transformer detector": {
        "model.input_proj.0.0.weight": torch.ones(2),
        "model.transformer.level_embed": torch.ones(3),
    },
    "segmenter": {"decode_head.conv_seg.weight": torch.ones(2), "auxiliary_head.convs.0.bn.weight": torch.ones(1)},
}


@every_family
@pytest.mark.parametrize("prefix", ["backbone.", "module.backbone."])
@pytest.mark.parametrize("head", HEADS)
def test_the_backbone_of_detectors_and_segmenters_is_loaded(name, head, prefix, shallow, loaded, tmp_path):
    """It has no classifier; for TransXNet it has one norm per stage instead."""
    state = {n: t for n, t in shallow(name).items() if not n.startswith(("head.", "classifier."))}
    if name.startswith("transxnet"):
        channels = (48, 96, 224, 448)
        state |= {
            f"norm{2 * i}.{part}": torch.full((c,), i + 2.0)
            for i, c in enumerate(channels)
            for part in ("weight", "bias")
        }
    file = {
        "meta": {},
        "state_dict": {**prefixed(state, prefix), **prefixed(HEADS[head], prefix.removesuffix("backbone."))},
    }
    torch.save(file, tmp_path / "detector.pth")
    options = dict(feature_norm=True) if name.startswith("transxnet") else {}
    net = shallow_net(name, features_only=True, **options)
    assert load_checkpoint(net, tmp_path / "detector.pth").complete
    found = net.model.state_dict()
    expected = {n: t for n, t in loaded(name).items() if not n.startswith(("head.", "norm."))}
    if name.startswith("transxnet"):
        assert all((found[f"stages.{i}.feature_norm.weight"] == i + 2.0).all() for i in range(4))
        found = {n: t for n, t in found.items() if "feature_norm" not in n}
    assert same_state({n: t for n, t in found.items() if not n.startswith("norm.")}, expected)


def test_a_training_file_with_its_arguments_loads(shallow, loaded, tmp_path):
    """timm's training script, used for TransXNet, saves the parsed arguments along with the weights."""
    file = {
        "state_dict": shallow("transxnet_t"),
        "args": argparse.Namespace(lr=2e-3, model="transxnet_t"),
        **training_leftovers(),
    }
    torch.save(file, tmp_path / "transx-t.pth.tar")
    net = shallow_net("transxnet_t")
    assert load_checkpoint(net, tmp_path / "transx-t.pth.tar").complete
    assert same_state(net.state_dict(), loaded("transxnet_t"))


@every_family
def test_foveal_checkpoints_load(name, loaded, tmp_path):
    torch.save({"model": loaded(name), **training_leftovers()}, tmp_path / "last.pt")
    net = shallow_net(name)
    assert load_checkpoint(net, tmp_path / "last.pt").complete
    assert same_state(net.state_dict(), loaded(name))


@every_family
def test_a_half_precision_checkpoint_is_cast_to_the_dtype_of_the_model(name, shallow, loaded, tmp_path):
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in shallow(name).items()}
    torch.save(half, tmp_path / "file.pth")
    net = shallow_net(name)
    load_checkpoint(net, tmp_path / "file.pth")
    rounded = {n: t.bfloat16().float() if t.is_floating_point() else t for n, t in loaded(name).items()}
    assert same_state(net.state_dict(), rounded)


def refusal(net, path, *parts, exception=FovealError) -> str:
    """Loading raises a one-line error that names the file and contains all parts, and leaves the model unchanged."""
    before, mode = snapshot(net), net.training
    with pytest.raises(exception) as error:
        load_checkpoint(net, path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert all(part in text for part in parts), text
    assert same_state(net.state_dict(), before)
    assert net.training == mode
    return text


def without(state, name):
    return {n: t for n, t in state.items() if n != name}


MISFITS = {
    "missing": (lambda s: without(s, "block3.0.attn.kv.weight"), "1 missing", "stages.2.blocks.0.attn.kv.weight"),
    "unexpected": (lambda s: {**s, "block9.0.extra": torch.ones(1)}, "1 unexpected", "stages.8.blocks.0.extra"),
    "misshaped": (lambda s: {**s, "norm2.bias": torch.ones(7)}, "1 misshaped", "stages.1.norm.bias", "(7,)", "(96,)"),
    "without a first convolution": (
        lambda s: without(s, "patch_embed1.proj.weight"),
        "1 missing",
        "downsample.proj.weight",
    ),
    "without a classifier": (lambda s: without(without(s, "head.weight"), "head.bias"), "2 missing", "head.fc.weight"),
    "other classes": (
        lambda s: {**s, "head.weight": torch.ones(5, 384), "head.bias": torch.ones(5)},
        "2 misshaped",
        "head.fc",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_mismatches_are_reported_and_nothing_is_loaded(misfit, shallow, tmp_path):
    change, *parts = MISFITS[misfit]
    torch.save(change(shallow("transnext_micro")), tmp_path / "file.pth")
    refusal(shallow_net("transnext_micro"), tmp_path / "file.pth", *parts)


@pytest.mark.parametrize("misfit", ["missing", "unexpected", "misshaped"])
def test_timm_rejects_mismatches_as_well(misfit, shallow, tmp_path):
    change, *parts = MISFITS[misfit]
    torch.save(change(shallow("transnext_micro")), tmp_path / "file.pth")
    with pytest.raises(FovealError) as error:
        shallow_net("transnext_micro", pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / "file.pth")))
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize(("net", "file"), [("transnext_micro", "transxnet_t"), ("transxnet_t", "transnext_micro")])
@pytest.mark.parametrize("wrapping", ["state dict", "backbone.", "state_dict_ema before state_dict"])
def test_weights_of_the_other_family_are_named_in_the_error(net, file, wrapping, shallow, tmp_path):
    torch.save(WRAPPINGS[wrapping](shallow(file)), tmp_path / "file.pth")
    families = {"transnext_micro": "TransNeXt", "transxnet_t": "TransXNet"}
    refusal(shallow_net(net), tmp_path / "file.pth", f"holds a {families[file]}", f"this net is a {families[net]}")
    with pytest.raises(FovealError, match=f"holds a {families[file]}"):
        shallow_net(net, pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / "file.pth")))


@pytest.mark.parametrize(("net", "file"), [("transnext_micro", "transxnet_t"), ("transxnet_t", "transnext_micro")])
def test_foveal_checkpoints_of_the_other_family_are_rejected(net, file, loaded, tmp_path):
    """Checkpoints as saved by Foveal's training."""
    torch.save({"model": loaded(file)}, tmp_path / "best.pt")
    families = {"transnext_micro": "TransNeXt", "transxnet_t": "TransXNet"}
    refusal(shallow_net(net), tmp_path / "best.pt", f"holds a {families[file]}", f"this net is a {families[net]}")


@pytest.mark.parametrize(
    ("net", "file"),
    [
        ("transnext_micro", "transnext_tiny"),
        ("transnext_micro_aaaa", "transnext_micro"),
        ("transxnet_t", "transxnet_s"),
    ],
)
def test_another_variant_is_rejected(net, file, shallow, tmp_path):
    torch.save(shallow(file), tmp_path / "file.pth")
    refusal(shallow_net(net), tmp_path / "file.pth", "does not fit")


def test_a_deeper_variant_is_rejected(released_file):
    text = refusal(shallow_net("transnext_micro"), released_file("transnext_micro"), "unexpected", "stages.0.blocks.1.")
    assert "missing" not in text


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_rejected(suffix, share, shallow, tmp_path):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(shallow("transnext_micro"), whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: math.floor(len(content) * share)])
    refusal(shallow_net("transnext_micro"), cut, "again")


def test_a_truncated_old_format_file_is_rejected(shallow, tmp_path):
    torch.save(shallow("transnext_micro"), tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "whole.pth").read_bytes()
    for share in (0.001, 0.05, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * share)])
        refusal(shallow_net("transnext_micro"), tmp_path / "cut.pth", "again")


OTHER_FILES = {
    "text": b"<html><body>404: Not Found</body></html>",
    "json": b'{"weights": [1, 2, 3]}',
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zip": b"PK\x05\x06" + bytes(18),
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", OTHER_FILES)
def test_a_file_that_is_not_a_checkpoint_is_rejected(content, suffix, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(OTHER_FILES[content])
    refusal(shallow_net("transnext_micro"), path)


CONTENTS = {
    "a tensor": torch.ones(3),
    "a list": [torch.ones(3)],
    "a number": 3,
    "an empty dict": {},
    "a dict without tensors": {"epoch": 3, "loss": 0.5},
    "an empty state dict": {"state_dict": {}},
    "another network": {"conv1.weight": torch.ones(64, 3, 7, 7), "fc.bias": torch.ones(1000)},
}


@every_family
@pytest.mark.parametrize("content", CONTENTS)
def test_a_checkpoint_with_other_content_is_rejected(content, name, tmp_path):
    torch.save(CONTENTS[content], tmp_path / "file.pth")
    refusal(shallow_net(name), tmp_path / "file.pth")


def test_a_checkpoint_with_nan_is_rejected(shallow, tmp_path):
    state = {name: tensor.clone() for name, tensor in shallow("transnext_micro").items()}
    name = list(state)[5]
    state[name].flatten()[-1] = torch.nan
    torch.save(state, tmp_path / "file.pth")
    refusal(shallow_net("transnext_micro"), tmp_path / "file.pth", f"holds NaN in {name}; pass a checkpoint")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.onnx", Problem.EXPORTED),
        ("a.xml", Problem.EXPORTED),
        ("a.bin", Problem.EXPORTED_WEIGHTS),  # of a.xml
        ("a.pt2", Problem.EXPORTED_PROGRAM),
        ("b.bin", Problem.NOT_A_CHECKPOINT),
    ],
)
def test_exported_files_are_named_as_such(name, problem, tmp_path):
    for file in ("a.onnx", "a.xml", "a.bin", "a.pt2", "b.bin"):
        (tmp_path / file).write_bytes(b"no pickle")
    with pytest.raises(CheckpointError) as error:
        WeightsFile.open(tmp_path / name)
    assert error.value.problem == problem
    assert str(tmp_path / name) in str(error.value)


def test_missing_files_and_folders_are_rejected(tmp_path):
    net = shallow_net("transnext_micro")
    refusal(net, tmp_path / "nowhere.pth", "does not exist")
    refusal(net, tmp_path)


class Malicious:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_never_run(zipped, shallow, tmp_path):
    content = {"state_dict": shallow("transnext_micro"), "callback": Malicious(tmp_path / "executed")}
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    refusal(shallow_net("transnext_micro"), tmp_path / "file.pth")
    assert not (tmp_path / "executed").exists()


def test_other_models_are_rejected(tmp_path, shallow):
    torch.save(shallow("transnext_micro"), tmp_path / "file.pth")
    with pytest.raises(FovealError, match=r"into a ResNet; foveal loads weights into TransNeXt and TransXNet"):
        load_checkpoint(timm.create_model("resnet10t"), tmp_path / "file.pth")


@every_family
@pytest.mark.parametrize("classes", [5, 0])
def test_new_classifier_skips_a_classifier_that_does_not_fit(name, classes, shallow, loaded, tmp_path):
    """A checkpoint with 1000 classes loads except for a classifier of 5; a model without classifier ignores it."""
    torch.save(shallow(name), tmp_path / "file.pth")
    net = shallow_net(name, num_classes=classes)
    before = snapshot(net)
    if classes:
        refusal(net, tmp_path / "file.pth", "2 misshaped", "head.fc")
    report = load_checkpoint(net, tmp_path / "file.pth", new_classifier=True)
    assert report.complete
    assert set(report.new) == ({"head.fc.weight", "head.fc.bias"} if classes else set())
    for n, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[n] if n in report.new else loaded(name)[n]), n


@pytest.mark.parametrize("misfit", ["missing", "unexpected", "misshaped"])
def test_new_classifier_allows_no_other_mismatch(misfit, shallow, tmp_path):
    torch.save(MISFITS[misfit][0](shallow("transnext_micro")), tmp_path / "file.pth")
    net = shallow_net("transnext_micro", num_classes=5)
    before = snapshot(net)
    with pytest.raises(FovealError, match=MISFITS[misfit][1]):
        load_checkpoint(net, tmp_path / "file.pth", new_classifier=True)
    assert same_state(net.state_dict(), before)


@every_family
@pytest.mark.parametrize("way", ["pretrained", "load_checkpoint"])
def test_the_first_convolution_adapts_to_grey_images(name, way, shallow, tmp_path):
    """One channel gets the sum of the three, so a grey image gives the output of three equal channels."""
    path = tmp_path / "file.pth"
    torch.save(shallow(name), path)
    if way == "pretrained":
        grey = shallow_net(name, in_chans=1, pretrained=True, pretrained_cfg_overlay=dict(file=str(path)))
    else:
        grey = shallow_net(name, in_chans=1)
        load_checkpoint(grey, path)
    colour = shallow_net(name)
    load_checkpoint(colour, path)
    x = image(64, 64, channels=1)
    with torch.no_grad():
        assert_same(grey(x), colour(x.expand(-1, 3, -1, -1)), reduction=10_000)


@every_family
@pytest.mark.parametrize("options", [dict(num_classes=7), dict(num_classes=0), dict(features_only=True)], ids=str)
def test_timm_adapts_the_classifier(name, options, shallow, loaded, tmp_path):
    torch.save({"model": shallow(name)}, tmp_path / "file.pth")
    net = shallow_net(name, pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / "file.pth")), **options)
    state = getattr(net, "model", net).state_dict()
    assert all(torch.equal(t, loaded(name)[n]) for n, t in state.items() if not n.startswith("head."))
    if options.get("num_classes"):
        assert state["head.fc.weight"].shape[0] == 7


@pytest.mark.parametrize("way", ["pretrained", "load_checkpoint", "set_input_size"])
def test_transxnet_tables_adapt_to_another_image_size(way, shallow, loaded, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(shallow("transxnet_t"), path)
    if way == "pretrained":
        net = shallow_net(
            "transxnet_t", img_size=(256, 192), pretrained=True, pretrained_cfg_overlay=dict(file=str(path))
        )
    else:
        net = shallow_net("transxnet_t", img_size=(256, 192) if way == "load_checkpoint" else 224)
        load_checkpoint(net, path)
    if way == "set_input_size":
        net.set_input_size((256, 192))
    for i, (stage, sr) in enumerate(zip(net.stages, (8, 4, 2, 1), strict=True)):
        height, width = 64 // 2**i, 48 // 2**i
        old = loaded("transxnet_t")[f"stages.{i}.position_bias.table"]
        new = F.interpolate(old, (height * width, (height // sr) * (width // sr)), mode="bicubic", align_corners=False)
        assert torch.equal(stage.position_bias.table, new)


def test_a_table_with_another_number_of_heads_is_rejected(shallow, tmp_path):
    state = shallow("transxnet_t")
    torch.save({**state, "relative_pos_enc.1": torch.zeros(1, 3, 784, 49)}, tmp_path / "file.pth")
    refusal(shallow_net("transxnet_t"), tmp_path / "file.pth", "1 misshaped", "stages.1.position_bias.table")


def test_a_report_is_printed_in_one_line(shallow, tmp_path):
    torch.save(shallow("transnext_micro"), tmp_path / "file.pth")
    report = load_checkpoint(shallow_net("transnext_micro"), tmp_path / "file.pth")
    assert str(report) == f"{len(shallow('transnext_micro'))} tensors loaded"


def test_a_checkpoint_without_batch_counters_loads(shallow, loaded, tmp_path):
    """Some exporters omit buffers that evaluation never reads."""
    state = shallow("transxnet_t")
    torch.save({n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}, tmp_path / "file.pth")
    net = shallow_net("transxnet_t")
    assert load_checkpoint(net, tmp_path / "file.pth").complete
    assert not [n for n, t in loaded("transxnet_t").items() if not torch.equal(t, net.state_dict()[n])]


def test_a_file_of_several_networks_says_which_was_taken(shallow, tmp_path):
    """The averaged one; a state dict beside it that is not of the table, such as a queue, is no network."""
    state = shallow("transnext_micro")
    content = {"model": noise(state), "ema": {"decay": 0.999, "shadow": state}, "queue": {"items": torch.ones(2)}}
    torch.save(content, tmp_path / "file.pth")
    file = WeightsFile.open(tmp_path / "file.pth")
    assert (file.wrapper, file.averaged, file.beside) == (("ema", "shadow"), True, ("model",))
    start = Start.of_file(file, LoadReport(loaded=("a", "b")))
    assert str(start) == (
        f"2 tensors were loaded from {file.path} (the averaged weights under ema.shadow, not those under model)."
    )
    document = start.document()
    assert (document["wrapper"], document["averaged"], document["beside"]) == (["ema", "shadow"], True, ["model"])
    torch.save({"model": state}, tmp_path / "file.pth")
    assert str(Start.of_file(WeightsFile.open(tmp_path / "file.pth"), LoadReport(loaded=("a", "b")))) == (
        f"2 tensors were loaded from {tmp_path}/file.pth."
    )
