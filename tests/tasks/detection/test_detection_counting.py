"""Parameters and multiply-adds of the published tables to their printed precision, and heads counted by hand."""

import pytest
import torch
from torch import nn

from foveal.tasks.detection import count_detector, create_detector
from support.detectors import small_detector

# TransNeXt's repository (parameters); TransXNet's paper, table IV (parameters, multiply-adds at 800 x 1280).
PUBLISHED = {
    ("mask_rcnn", "transnext_tiny"): (47.9, None),
    ("mask_rcnn", "transnext_small"): (69.3, None),
    ("mask_rcnn", "transnext_base"): (109.2, None),
    ("mask_rcnn", "transxnet_t"): (32.5, 205),
    ("mask_rcnn", "transxnet_s"): (46.5, 261),
    ("mask_rcnn", "transxnet_b"): (67.6, 336),
    ("retinanet", "transxnet_t"): (22.4, 187),
    ("retinanet", "transxnet_s"): (36.6, 242),
    ("retinanet", "transxnet_b"): (58.0, 317),
}


def on_meta(name, backbone, **options):
    with torch.device("meta"):
        return create_detector(name, backbone, **options)


@pytest.mark.parametrize(("name", "backbone"), PUBLISHED)
def test_counts_match_the_published_values(name, backbone):
    detector = on_meta(name, backbone)
    params, macs = PUBLISHED[name, backbone]
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6, 1) == params
    if macs is not None:
        count = count_detector(detector)
        assert round(count.params / 1e6, 1) == params
        assert round(count.paper_macs / 1e9) == macs


def test_counts_of_mask_rcnn_with_swin_match_the_published_values():
    """Mask R-CNN with Swin-T in the same table, 264 G: a backbone without batch norm or pooling."""
    detector = on_meta("mask_rcnn", "swin_tiny_patch4_window7_224", backbone_args=dict(img_size=(800, 1280)))
    count = count_detector(detector, (800, 1280))
    assert round(count.params / 1e6, 1) == 47.8
    assert round(count.paper_macs / 1e9) == 264


@pytest.mark.parametrize(("name", "printed", "stages"), [("mask_rcnn", 31.2, 4), ("retinanet", 21.3, 3)])
def test_parameters_with_resnet_18_match_the_published_values(name, printed, stages):
    """MMDetection counts trainable parameters and freezes the stem and first stage of a ResNet."""
    detector = on_meta(name, "resnet18", backbone_args=dict(out_indices=(1, 2, 3, 4)[-stages:]))
    frozen = ("conv1.", "bn1.", "layer1.")
    learning = [p for n, p in detector.named_parameters() if not n.removeprefix("backbone.net.").startswith(frozen)]
    assert round(sum(p.numel() for p in learning) / 1e6, 1) == printed


@pytest.mark.parametrize(
    ("backbone", "levels", "printed"),
    [
        ("transnext_tiny", 4, "47.8"),
        ("transnext_tiny", 5, "48.1"),
        ("transnext_small", 5, "69.6"),
        ("transnext_base", 5, "110"),
    ],
)
def test_parameters_of_dino_match_the_published_values(backbone, levels, printed):
    params = sum(p.numel() for p in on_meta("dino", backbone, num_levels=levels).parameters())
    digits = len(printed.partition(".")[2])
    assert f"{params / 1e6:.{digits}f}" == printed


def test_dino_multiply_adds_scale_with_the_image():
    detector = on_meta("dino", "transnext_atto", num_levels=4, encoder_layers=1, decoder_layers=1, dim=64)
    small, large = (count_detector(detector, size) for size in ((64, 64), (128, 128)))
    assert small.params == sum(p.numel() for p in detector.parameters())
    assert large.modules["encoder"].macs == 4 * small.modules["encoder"].macs > 0  # 340 and 85 tokens


def test_the_second_stage_is_counted_for_1000_boxes_and_100_masks():
    detector = small_detector("mask_rcnn", num_classes=3)
    modules = count_detector(detector, (64, 96)).modules
    assert modules["roi_heads.box_head"].macs == 1000 * (8 * 49 * 16 + 16 * 16 + 16 * (3 + 1) + 16 * 3 * 4)
    convolution, upsampling, logits = 14 * 14 * 8 * 8 * 9, 14 * 14 * 8 * 8 * 4, 28 * 28 * 8 * 3
    assert modules["roi_heads.mask_head"].macs == 100 * (convolution + upsampling + logits)


def test_counts_of_a_dense_head_match_those_by_hand():
    """With Foveal's rule, and with that of the tables, which includes biases and ReLU."""
    detector = small_detector("retinanet", num_classes=3)
    positions = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1  # on all levels of a 64 x 96 image
    layers = 2 * (8 * 8 * 9) + 8 * 9 * (9 * 3 + 9 * 4)
    count = count_detector(detector, (64, 96))
    assert count.modules["head"].macs == positions * layers
    silent = small_detector("retinanet", num_classes=3)
    silent.head.act = nn.Identity()
    assert count.paper_macs - count_detector(silent, (64, 96)).paper_macs == 2 * positions * 8


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet"])
def test_counting_leaves_a_detector_unchanged_and_lists_its_modules(name):
    detector = small_detector(name)
    state = {n: t.clone() for n, t in detector.state_dict().items()}
    count = count_detector(detector, (64, 64))
    assert list(count.modules) == [n for n, _ in detector.named_modules()]
    assert count.size == (64, 64)
    assert count.params == sum(p.numel() for p in detector.parameters())
    assert (
        count.modules["backbone"].macs
        + sum(count.modules[n].macs for n, _ in detector.named_children() if n != "backbone")
        == count.macs
    )
    assert all(m.training for m in detector.modules())
    assert all(torch.equal(t, state[n]) for n, t in detector.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in detector.modules())
