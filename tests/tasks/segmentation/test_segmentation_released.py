"""Checkpoints with MMSegmentation's names: every tensor keeps its meaning, and loading is all or nothing."""

import functools

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from foveal.models import CheckpointError
from foveal.tasks.segmentation import create_segmenter, load_segmenter
from support import plain_mmseg
from support.checkpoints import same_state, shallow_state, snapshot
from support.pixel_segmenters import batch

CLASSES, CHANNELS = 4, 6
WIDTHS = {"transnext_micro": (48, 96, 192, 384), "transxnet_t": (48, 96, 224, 448)}
BACKBONE = {"upernet": "transnext_micro", "semantic_fpn": "transxnet_t"}
OPTIONS = {
    "upernet": dict(channels=CHANNELS, auxiliary_channels=CHANNELS + 1),
    "semantic_fpn": dict(pyramid_channels=CHANNELS, channels=CHANNELS + 1),
}
NAMES = [*BACKBONE]
PLAIN = {"upernet": plain_mmseg.upernet, "semantic_fpn": plain_mmseg.semantic_fpn}


def conv_module(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.conv.weight": torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5,
        f"{name}.bn.weight": 1 + 0.1 * torch.randn(outputs),
        f"{name}.bn.bias": torch.randn(outputs),
        f"{name}.bn.running_mean": 0.1 * torch.randn(outputs),
        f"{name}.bn.running_var": 0.5 + torch.rand(outputs),
        f"{name}.bn.num_batches_tracked": torch.randint(1, 1000000, ()),
    }


def convolution(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, torch.Tensor]:
    weight = torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
    return {f"{name}.weight": weight, f"{name}.bias": torch.randn(outputs)}


def upernet_state() -> dict[str, torch.Tensor]:
    """State dict of MMSegmentation's UPerHead and FCNHead."""
    widths = WIDTHS["transnext_micro"]
    state = convolution("decode_head.conv_seg", CHANNELS, CLASSES, 1)
    for i in range(4):
        state |= conv_module(f"decode_head.psp_modules.{i}.1", widths[3], CHANNELS, 1)
    state |= conv_module("decode_head.bottleneck", widths[3] + 4 * CHANNELS, CHANNELS, 3)
    for i in range(3):
        state |= conv_module(f"decode_head.lateral_convs.{i}", widths[i], CHANNELS, 1)
        state |= conv_module(f"decode_head.fpn_convs.{i}", CHANNELS, CHANNELS, 3)
    state |= conv_module("decode_head.fpn_bottleneck", 4 * CHANNELS, CHANNELS, 3)
    state |= convolution("auxiliary_head.conv_seg", CHANNELS + 1, CLASSES, 1)
    return state | conv_module("auxiliary_head.convs.0", widths[2], CHANNELS + 1, 3)


def semantic_fpn_state() -> dict[str, torch.Tensor]:
    """State dict of MMSegmentation's FPN and FPNHead; upsampling layers alternate with the convolutions of a branch."""
    state = {}
    for i, width in enumerate(WIDTHS["transxnet_t"]):
        state |= convolution(f"neck.lateral_convs.{i}.conv", width, CHANNELS, 1)
        state |= convolution(f"neck.fpn_convs.{i}.conv", CHANNELS, CHANNELS, 3)
    state |= convolution("decode_head.conv_seg", CHANNELS + 1, CLASSES, 1)
    for i, places in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for place in places:
            inputs = CHANNELS + 1 if place else CHANNELS
            state |= conv_module(f"decode_head.scale_heads.{i}.{place}", inputs, CHANNELS + 1, 3)
    return state


@functools.cache
def released(name: str) -> dict[str, torch.Tensor]:
    """State dict of a released checkpoint for a model with one block per stage."""
    torch.manual_seed(0)
    backbone = BACKBONE[name]
    state = {n: t for n, t in shallow_state(backbone).items() if not n.startswith(("head.", "classifier."))}
    if backbone.startswith("transxnet"):
        for i, width in enumerate(WIDTHS[backbone]):
            state |= {f"norm{2 * i}.weight": torch.randn(width), f"norm{2 * i}.bias": torch.randn(width)}
    head = upernet_state() if name == "upernet" else semantic_fpn_state()
    return {**{f"backbone.{n}": t for n, t in state.items()}, **head}


def segmenter_for(name: str, num_classes: int = CLASSES, **options):
    fixed = dict(backbone_args=dict(depths=(1, 1, 1, 1)), reference_size=64)
    return create_segmenter(name, BACKBONE[name], num_classes, **{**fixed, **OPTIONS[name], **options})


def saved(tmp_path, state):
    path = tmp_path / "released.pth"
    torch.save(
        {"state_dict": state, "meta": {"CLASSES": ("wall", "sky"), "PALETTE": [[1, 2, 3]], "iter": 160000}}, path
    )
    return path


@pytest.mark.parametrize("name", NAMES)
def test_released_tensors_map_one_to_one(name, tmp_path):
    segmenter, state = segmenter_for(name), released(name)
    report = load_segmenter(segmenter, saved(tmp_path, state))
    assert report.complete
    found = segmenter.state_dict()
    assert set(report.loaded) == set(found)
    taken = {
        n: next(m for m, t in state.items() if t.shape == found[n].shape and torch.equal(t, found[n])) for n in found
    }
    heads = {ours: theirs for ours, theirs in taken.items() if not ours.startswith("backbone.")}
    assert sorted(heads.values()) == sorted(n for n in state if not n.startswith("backbone."))
    assert all(theirs.startswith("backbone.") for ours, theirs in taken.items() if ours.startswith("backbone."))


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (32, 40)])
@pytest.mark.parametrize("name", NAMES)
def test_scores_of_a_released_segmenter_match_mmsegmentation(name, size, tmp_path):
    segmenter, state = segmenter_for(name).eval(), released(name)
    load_segmenter(segmenter, saved(tmp_path, state))
    segmenter.double()
    images = batch(*size)[0].double()
    with torch.no_grad():
        found = segmenter(images)
        maps = segmenter.backbone(normalised(images))
        expected = plain_mmseg.bilinear(PLAIN[name](state, maps), size)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_a_released_segmenter_match_mmsegmentation(name, tmp_path):
    """Including the auxiliary head, with batch norms in training mode."""
    segmenter, state = segmenter_for(name, dropout=0.0), released(name)
    load_segmenter(segmenter, saved(tmp_path, state))
    segmenter.double().train()
    segmenter.backbone.eval()
    images, labels = batch(40, 33, classes=CLASSES)
    with torch.no_grad():
        losses = segmenter(images.double(), labels)
        maps = segmenter.backbone(normalised(images.double()))
    expected = {"loss_decode": plain_mmseg.cross_entropy(PLAIN[name](state, maps, training=True), labels)}
    if name == "upernet":
        auxiliary = plain_mmseg.fcn(state, maps, training=True)
        expected["loss_auxiliary"] = 0.4 * plain_mmseg.cross_entropy(auxiliary, labels)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-9)


def normalised(images):
    mean, std = (torch.tensor(v).view(3, 1, 1).to(images) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return (images - mean) / std


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_without_batch_counters_loads(name, tmp_path):
    segmenter, state = segmenter_for(name), released(name)
    without = {n: t for n, t in state.items() if n.startswith("backbone.") or not n.endswith(".num_batches_tracked")}
    assert len(without) < len(state)
    assert load_segmenter(segmenter, saved(tmp_path, without)).complete


def test_the_auxiliary_head_of_a_checkpoint_is_skipped_if_disabled(tmp_path):
    state = released("upernet")
    report = load_segmenter(segmenter_for("upernet", auxiliary_weight=0), saved(tmp_path, state))
    assert report.complete
    assert report.left_out == sum(n.startswith("auxiliary_head.") for n in state) == 8


@pytest.mark.parametrize(
    ("name", "heads"), [("upernet", ("decode_head", "auxiliary_head")), ("semantic_fpn", ("decode_head",))]
)
def test_new_classes_leaves_only_the_classifiers_new(name, heads, tmp_path):
    path = saved(tmp_path, released(name))
    segmenter = segmenter_for(name, num_classes=CLASSES + 3)
    with pytest.raises(CheckpointError, match=r"misshaped .*decode_head\.classifier"):
        load_segmenter(segmenter, path)
    report = load_segmenter(segmenter, path, new_classes=True)
    assert set(report.new) == {f"{head}.classifier.{kind}" for head in heads for kind in ("weight", "bias")}
    assert len(report.loaded) + len(report.new) == len(segmenter.state_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("decode_head.fpn_bottleneck.bn.bias"), "1 missing .*fpn_bottleneck.batch_norm.bias"),
        (lambda s: s.update({"decode_head.conv_seg.weight": torch.zeros(150, 6, 1, 1)}), "1 misshaped .*150, 6"),
        (lambda s: s.update({"decode_head.conv_depth.weight": torch.zeros(1)}), "1 unexpected .*conv_depth"),
        (lambda s: s.pop("backbone.patch_embed1.proj.weight"), "missing .*downsample.proj.weight"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("backbone.")], "holds no segmenter"),
    ],
    ids=["missing", "misshaped", "unexpected", "backbone", "heads only"],
)
def test_a_mismatched_checkpoint_changes_nothing(change, said, tmp_path):
    segmenter = segmenter_for("upernet")
    before = snapshot(segmenter)
    state = dict(released("upernet"))
    change(state)
    with pytest.raises(CheckpointError, match=said):
        load_segmenter(segmenter, saved(tmp_path, state))
    assert same_state(before, segmenter.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_with_another_backbone_is_rejected_by_name(name, tmp_path):
    other = NAMES[1 - NAMES.index(name)]
    with pytest.raises(CheckpointError, match="holds a Trans"):
        load_segmenter(segmenter_for(name), saved(tmp_path, released(other)))


@pytest.mark.parametrize("name", NAMES)
def test_foveal_state_dicts_load(name, tmp_path):
    saving, loading = segmenter_for(name), segmenter_for(name)
    torch.save(saving.state_dict(), tmp_path / "ours.pt")
    assert load_segmenter(loading, tmp_path / "ours.pt").complete
    assert same_state(saving.state_dict(), loading.state_dict())
