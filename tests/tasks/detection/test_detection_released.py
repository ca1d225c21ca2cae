"""Checkpoints with MMDetection's names: every tensor is loaded with its meaning, completely or not at all."""

import functools

import pytest
import torch

import foveal
from foveal.models import CheckpointError
from foveal.tasks.detection import create_detector, load_detector
from support.checkpoints import same_state, shallow_state, snapshot
from support.detectors import noise

CLASSES, CHANNELS = 4, 6

# Names and shapes as saved by MMDetection 2, without the backbone; four maps with C0 to C3 channels.
FPN = {
    "neck.lateral_convs.{i}.conv": (CHANNELS, "C{i}", 1, 1),
    "neck.fpn_convs.{i}.conv": (CHANNELS, CHANNELS, 3, 3),
}
SECOND_STAGE = {
    "rpn_head.rpn_conv": (CHANNELS, CHANNELS, 3, 3),
    "rpn_head.rpn_cls": (3, CHANNELS, 1, 1),
    "rpn_head.rpn_reg": (12, CHANNELS, 1, 1),
    "roi_head.bbox_head.fc_cls": (CLASSES + 1, 8),
    "roi_head.bbox_head.fc_reg": (CLASSES * 4, 8),
    "roi_head.bbox_head.shared_fcs.0": (8, CHANNELS * 49),
    "roi_head.bbox_head.shared_fcs.1": (8, 8),
    "roi_head.mask_head.convs.0.conv": (CHANNELS, CHANNELS, 3, 3),
    "roi_head.mask_head.convs.1.conv": (CHANNELS, CHANNELS, 3, 3),
    "roi_head.mask_head.upsample": (CHANNELS, CHANNELS, 2, 2),
    "roi_head.mask_head.conv_logits": (CLASSES, CHANNELS, 1, 1),
}
DENSE = {
    "neck.fpn_convs.3.conv": (CHANNELS, "C3", 3, 3),
    "neck.fpn_convs.4.conv": (CHANNELS, CHANNELS, 3, 3),
    "bbox_head.cls_convs.0.conv": (CHANNELS, CHANNELS, 3, 3),
    "bbox_head.cls_convs.1.conv": (CHANNELS, CHANNELS, 3, 3),
    "bbox_head.reg_convs.0.conv": (CHANNELS, CHANNELS, 3, 3),
    "bbox_head.reg_convs.1.conv": (CHANNELS, CHANNELS, 3, 3),
    "bbox_head.retina_cls": (9 * CLASSES, CHANNELS, 3, 3),
    "bbox_head.retina_reg": (9 * 4, CHANNELS, 3, 3),
}
OPTIONS = {
    "mask_rcnn": dict(hidden=8, mask_convs=2),
    "retinanet": dict(convs=2),
}
WIDTHS = {"transnext_micro": (48, 96, 192, 384), "transxnet_t": (48, 96, 224, 448)}
PAIRS = [("mask_rcnn", "transnext_micro"), ("mask_rcnn", "transxnet_t"), ("retinanet", "transxnet_t")]


def shape_of(pattern, level, widths):
    return tuple(widths[int(n.format(i=level)[1])] if isinstance(n, str) else n for n in pattern)


def head_state(name: str, backbone: str) -> dict[str, torch.Tensor]:
    widths = WIDTHS[backbone]
    first = 0 if name == "mask_rcnn" else 1
    shapes = {n: shape_of(s, 3, widths) for n, s in (SECOND_STAGE if name == "mask_rcnn" else DENSE).items()}
    for i in range(4 - first):
        shapes |= {n.format(i=i): shape_of(s, i + first, widths) for n, s in FPN.items()}
    state = {}
    for layer, shape in shapes.items():
        outputs = shape[1] if layer.endswith("upsample") else shape[0]
        state |= {f"{layer}.weight": torch.randn(shape), f"{layer}.bias": torch.randn(outputs)}
    return state


@functools.cache
def released(name: str, backbone: str) -> dict[str, torch.Tensor]:
    """State dict of a released checkpoint for a model with one block per stage."""
    torch.manual_seed(0)
    state = {n: t for n, t in shallow_state(backbone).items() if not n.startswith(("head.", "classifier."))}
    if backbone.startswith("transxnet"):
        wanted = range(4) if name == "mask_rcnn" else range(1, 4)
        for i in wanted:
            width = WIDTHS[backbone][i]
            state |= {f"norm{2 * i}.weight": torch.randn(width), f"norm{2 * i}.bias": torch.randn(width)}
    return {**{f"backbone.{n}": t for n, t in state.items()}, **head_state(name, backbone)}


def detector_for(name: str, backbone: str, **options):
    args = dict(depths=(1, 1, 1, 1))
    fixed = dict(channels=CHANNELS, backbone_args=args, reference_size=64, short=64, long=96)
    return create_detector(name, backbone, CLASSES, **{**fixed, **OPTIONS[name], **options})


def saved(tmp_path, state, **around):
    path = tmp_path / "released.pth"
    torch.save({"state_dict": state, "meta": {"CLASSES": ("a", "b"), "epoch": 12, "config": "x"}, **around}, path)
    return path


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_released_tensors_map_one_to_one(name, backbone, tmp_path):
    detector, state = detector_for(name, backbone), released(name, backbone)
    report = load_detector(detector, saved(tmp_path, state))
    assert report.complete
    assert set(report.loaded) == set(detector.state_dict())
    found = detector.state_dict()
    taken = {
        n: next(m for m, t in state.items() if t.shape == found[n].shape and torch.equal(t, found[n])) for n in found
    }
    heads = {ours: theirs for ours, theirs in taken.items() if not ours.startswith("backbone.")}
    assert sorted(heads.values()) == sorted(n for n in state if not n.startswith("backbone."))
    assert all(theirs.startswith("backbone.") for ours, theirs in taken.items() if ours.startswith("backbone."))


def test_mask_rcnn_tensors_are_loaded_into_the_listed_layers(tmp_path):
    detector, state = detector_for("mask_rcnn", "transnext_micro"), released("mask_rcnn", "transnext_micro")
    load_detector(detector, saved(tmp_path, state))
    box, mask, rpn = detector.roi_heads.box_head, detector.roi_heads.mask_head, detector.rpn.head
    for theirs, ours in {
        "neck.lateral_convs.2.conv": detector.pyramid.lateral[2],
        "neck.fpn_convs.3.conv": detector.pyramid.output[3],
        "rpn_head.rpn_cls": rpn.objectness,
        "rpn_head.rpn_reg": rpn.box,
        "roi_head.bbox_head.shared_fcs.1": box.fc2,
        "roi_head.bbox_head.fc_cls": box.classifier,
        "roi_head.bbox_head.fc_reg": box.box,
        "roi_head.mask_head.convs.1.conv": mask.convs[1],
        "roi_head.mask_head.upsample": mask.upsample,
        "roi_head.mask_head.conv_logits": mask.logits,
        "backbone.patch_embed1.proj": detector.backbone.body.stages[0].downsample.proj,
    }.items():
        assert torch.equal(state[f"{theirs}.weight"], ours.weight), theirs
        assert torch.equal(state[f"{theirs}.bias"], ours.bias), theirs


def test_retinanet_tensors_are_loaded_into_the_listed_layers(tmp_path):
    detector, state = detector_for("retinanet", "transxnet_t"), released("retinanet", "transxnet_t")
    load_detector(detector, saved(tmp_path, state))
    for theirs, ours in {
        "neck.lateral_convs.0.conv": detector.pyramid.lateral[0],
        "neck.fpn_convs.2.conv": detector.pyramid.output[2],
        "neck.fpn_convs.3.conv": detector.pyramid.extra[0],
        "neck.fpn_convs.4.conv": detector.pyramid.extra[1],
        "bbox_head.cls_convs.1.conv": detector.head.class_tower[1],
        "bbox_head.reg_convs.1.conv": detector.head.box_tower[1],
        "bbox_head.retina_cls": detector.head.classifier,
        "bbox_head.retina_reg": detector.head.box,
        "backbone.norm2": detector.backbone.body.stages[1].feature_norm,
    }.items():
        assert torch.equal(state[f"{theirs}.weight"], ours.weight), theirs
        assert torch.equal(state[f"{theirs}.bias"], ours.bias), theirs


def with_biases(name, backbone, **biases):
    """A released state dict whose heads are zero except for biases {name with __ for dots: {index: value}}."""
    state = dict(released(name, backbone))
    state |= {n: torch.zeros_like(t) for n, t in state.items() if not n.startswith("backbone.")}
    for layer, values in biases.items():
        bias = state[f"{layer.replace('__', '.')}.bias"]
        for place, value in values.items():
            bias[place] = value
    return state


def test_a_released_mask_rcnn_keeps_its_meaning(tmp_path):
    """Classes 0 to 3 followed by the background; one box per class; the third anchor is the tall one.

    The first box code of class 2, in units of 0.1, moves the box by half its width: the code is 5.
    """
    state = with_biases(
        "mask_rcnn",
        "transnext_micro",
        rpn_head__rpn_cls={0: -20, 1: -20, 2: 5},
        roi_head__bbox_head__fc_cls={2: 8.0, CLASSES: 4.0},
        roi_head__bbox_head__fc_reg={2 * 4: 5.0},
        roi_head__mask_head__conv_logits={0: -9, 1: -9, 2: 9, 3: -9},
    )
    detector = detector_for("mask_rcnn", "transnext_micro", anchor_scale=2, proposals=40, overlap=1.0).eval()
    load_detector(detector, saved(tmp_path, state))
    with torch.no_grad():
        (found,) = detector([noise(64, 96)])
    assert len(found["boxes"]) == 40
    assert found["labels"].tolist() == [2] * 40
    score = torch.tensor([0.0, 0, 8, 0, 4]).softmax(0)[2]
    torch.testing.assert_close(found["scores"], score.expand(40))
    x1, y1, x2, y2 = found["boxes"].unbind(1)
    # A tall anchor of scale 2 has a width of stride * 2 / sqrt(2), twice that height, and a centre on the grid.
    for box in found["boxes"][(x1 > 0) & (x2 < 96) & (y1 > 0) & (y2 < 64)]:
        width, height = (box[2:] - box[:2]).tolist()
        stride = width / 2**0.5
        assert min(abs(stride - known) for known in (4, 8, 16, 32)) < 1e-3
        assert height == pytest.approx(2 * width, abs=1e-3)
        centre = float(box[0] + box[2]) / 2 - width / 2  # before it was moved by half its width
        assert centre / stride == pytest.approx(round(centre / stride), abs=1e-3)
    first = found["masks"][0, 0] >= 0.5
    inside = torch.zeros(64, 96, dtype=torch.bool)
    inside[round(float(y1[0])) : round(float(y2[0])), round(float(x1[0])) : round(float(x2[0]))] = True
    assert (first == inside).float().mean() > 0.99


def test_the_last_class_of_a_released_mask_rcnn_is_the_background(tmp_path):
    state = with_biases("mask_rcnn", "transnext_micro", roi_head__bbox_head__fc_cls={CLASSES: 9.0})
    detector = detector_for("mask_rcnn", "transnext_micro").eval()
    load_detector(detector, saved(tmp_path, state))
    with torch.no_grad():
        (found,) = detector([noise(64, 96)])
    assert len(found["boxes"]) == 0


def test_a_released_retinanet_keeps_its_meaning(tmp_path):
    """Channels are ordered by anchor, then by class or box code: anchor 7 is the tall one of the second scale."""
    state = with_biases(
        "retinanet",
        "transxnet_t",
        bbox_head__retina_cls={**dict.fromkeys(range(9 * CLASSES), -9.0), 7 * CLASSES + 3: 2.0},
        bbox_head__retina_reg={7 * 4 + 1: 0.5},
    )
    detector = detector_for("retinanet", "transxnet_t", overlap=1.0, short=96).eval()
    load_detector(detector, saved(tmp_path, state))
    with torch.no_grad():
        (found,) = detector([noise(96, 96)])
    assert set(found["labels"].tolist()) == {3}
    side = 8 * 4 * 2 ** (1 / 3)
    width, height = side / 2**0.5, side * 2**0.5
    expected = torch.tensor([48 - width / 2, 16, 48 + width / 2, 16 + height])
    assert (found["boxes"] - expected).abs().amax(1).min() < 1e-3  # the cell in column 6, row 2, moved down by half


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("rpn_head.rpn_cls.bias"), "1 missing .*rpn.head.objectness.bias"),
        (lambda s: s.update({"roi_head.bbox_head.fc_cls.weight": torch.zeros(81, 8)}), "1 misshaped .*81, 8"),
        (lambda s: s.update({"roi_head.semantic.weight": torch.zeros(1)}), "1 unexpected .*roi_head.semantic"),
        (lambda s: s.pop("backbone.patch_embed1.proj.weight"), "missing .*downsample.proj.weight"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("backbone.")], "holds no detector"),
    ],
    ids=["missing", "misshaped", "unexpected", "backbone", "heads only"],
)
def test_a_mismatched_checkpoint_changes_nothing(change, said, tmp_path):
    detector = detector_for("mask_rcnn", "transnext_micro")
    before = snapshot(detector)
    state = dict(released("mask_rcnn", "transnext_micro"))
    change(state)
    with pytest.raises(CheckpointError, match=said):
        load_detector(detector, saved(tmp_path, state))
    assert same_state(before, detector.state_dict())


def test_a_checkpoint_with_another_backbone_is_rejected_by_name(tmp_path):
    detector = detector_for("mask_rcnn", "transnext_micro")
    with pytest.raises(CheckpointError, match="holds a TransXNet"):
        load_detector(detector, saved(tmp_path, released("mask_rcnn", "transxnet_t")))


def test_python_objects_in_the_metadata_raise_a_one_line_error(tmp_path):
    path = saved(tmp_path, released("mask_rcnn", "transnext_micro"), hooks=foveal.models.LoadReport())
    with pytest.raises(
        CheckpointError, match=r"holds Python objects beside weights.*save its state dict alone"
    ) as error:
        load_detector(detector_for("mask_rcnn", "transnext_micro"), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrap", [dict, lambda s: {"model": {f"module.{n}": t for n, t in s.items()}}])
@pytest.mark.parametrize(("name", "backbone"), PAIRS[1:])
def test_foveal_state_dicts_load(name, backbone, wrap, tmp_path):
    saving, loading = detector_for(name, backbone), detector_for(name, backbone)
    torch.save(wrap(saving.state_dict()), tmp_path / "ours.pt")
    assert load_detector(loading, tmp_path / "ours.pt").complete
    assert same_state(saving.state_dict(), loading.state_dict())


def test_a_resnet_checkpoint_loads_with_its_own_names(tmp_path):
    """MMDetection and timm both use torchvision's names for ResNet."""
    args = dict(out_indices=(1, 2, 3, 4))
    saving, loading = (
        create_detector("mask_rcnn", "resnet18", 2, channels=8, hidden=8, backbone_args=args) for _ in "ab"
    )
    ours = saving.state_dict()
    state = {n.replace("backbone.net.", "backbone."): t for n, t in ours.items() if n.startswith("backbone.net.")}
    state |= {n: t for n, t in ours.items() if not n.startswith("backbone.net.")}
    torch.save(state, tmp_path / "resnet.pth")
    assert load_detector(loading, tmp_path / "resnet.pth").complete
    assert same_state(ours, loading.state_dict())
