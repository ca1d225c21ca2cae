"""DINO end to end: published sizes, any image size, any number of objects, and gradients."""

import pytest
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.dense import create
from foveal.tasks.dense.counting import count_detector
from foveal.tasks.detection import create_detector
from foveal.tasks.detection.dino.detector import top_detections

SMALL = dict(dim=64, heads=4, points=2, mlp_dim=48, encoder_layers=1, decoder_layers=2, queries=12, denoising_queries=6)


def small_dino(backbone="transnext_atto", num_classes=3, **options):
    detector = create_detector(
        "dino", backbone, num_classes, short=64, long=96, reference_size=64, **{**SMALL, **options}
    )
    # Simulates some training: layers initialised with zeros propagate no gradient.
    zeros = [head.layers[-1] for head in detector.heads.boxes]
    zeros += [module for name, module in detector.named_modules() if "sampling_" in name or "_weights" in name]
    for linear in zeros:
        nn.init.normal_(linear.weight, std=0.1)
    return detector


def target(*rows):
    """A target from rows of (label, x1, y1, x2, y2)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    return {"labels": table[:, 0].long(), "boxes": table[:, 1:]}


IMAGES = [(48, 64), (70, 41)]
TARGETS = [target((2, 5, 5, 30, 40)), target((0, 0, 0, 20, 20), (1, 10, 30, 41, 70))]


def images():
    return [torch.rand(3, *size) for size in IMAGES]


@pytest.mark.parametrize(
    ("num_levels", "backbone", "millions"),
    [
        (4, "transnext_tiny", "47.8"),
        (5, "transnext_tiny", "48.1"),
        (5, "transnext_small", "69.6"),
        (5, "transnext_base", "110"),
    ],
)
def test_parameters_match_the_published_values(num_levels, backbone, millions):
    """From table 4 of the TransNeXt paper and its repository."""
    with torch.device("meta"):
        detector = create_detector("dino", backbone, num_levels=num_levels)
    count = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
    assert f"{count:.{len(millions.partition('.')[2])}f}" == millions


def test_multiply_adds_of_a_decoder_layer_are_the_sum_of_its_parts():
    """12 queries of dimension 64 attend to the 85 tokens of 64 x 64 pixels; the second layer refines boxes."""
    one, two = (count_detector(small_dino(decoder_layers=layers), (64, 64)).paper_macs for layers in (1, 2))
    dim, samples, tokens = 64, 4 * 4 * 2, 8 * 8 + 4 * 4 + 2 * 2 + 1
    self_attention, feed_forward = 4 * dim * dim, 2 * dim * 48
    deformable = dim * (2 * samples + samples + dim)
    place = 2 * dim * dim + dim * dim
    class_head, box_head = dim * 3, 2 * dim * dim + dim * 4
    norms, relu = 4 * 2 * dim, 48
    of_query = self_attention + feed_forward + deformable + place + class_head + 2 * box_head + norms + relu
    assert two - one == 12 * of_query + tokens * dim * dim


@pytest.mark.parametrize(("backbone", "num_levels"), [("transnext_atto", 5), ("transxnet_atto", 4)])
def test_every_parameter_gets_a_nonzero_gradient(backbone, num_levels):
    detector = small_dino(backbone, num_levels=num_levels).train()
    sum(detector(images(), TARGETS).values()).backward()
    idle = [
        name
        for name, parameter in detector.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert idle == []
    still = {name for name, p in detector.named_parameters() if not p.grad.any() and not name.startswith("backbone.")}
    assert still == set()


def test_losses_are_named_finite_and_positive():
    losses = small_dino().train()(images(), TARGETS)
    parts = ("", "_auxiliary", "_encoder", "_denoising")
    assert set(losses) == {f"loss_{kind}{part}" for kind in ("class", "l1", "giou") for part in parts}
    assert all(loss.ndim == 0 and 0 < loss.item() < 100 for loss in losses.values())


def test_the_summary_shows_losses_of_the_last_layer_and_sums_of_others():
    detector = small_dino()
    losses = {"loss_class": 1, "loss_l1": 2, "loss_class_encoder": 4, "loss_l1_encoder": 8, "loss_giou_denoising": 16}
    shown = detector.summary({name: torch.tensor(float(loss)) for name, loss in losses.items()})
    assert {name: loss.item() for name, loss in shown.items()} == {"class": 1, "l1": 2, "encoder": 12, "denoising": 16}


@pytest.mark.parametrize("targets", [[target(), target()], [target(), TARGETS[1]]])
def test_images_without_objects_give_every_parameter_a_gradient(targets):
    detector = small_dino().train()
    losses = detector(images(), targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [name for name, parameter in detector.named_parameters() if parameter.grad is None] == []
    if not len(targets[1]["labels"]):
        assert losses["loss_l1"] == losses["loss_giou"] == losses["loss_class_denoising"] == 0


def test_denoising_queries_do_not_affect_matched_queries():
    """The losses of matched queries are independent of the noise."""
    detector = small_dino().train()
    batch, found = images(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(detector(batch, TARGETS))
    for name, loss in found[0].items():
        same = torch.allclose(loss, found[1][name], rtol=1e-5)
        assert same == ("denoising" not in name), name


def test_detections_of_a_mixed_batch_equal_those_of_single_images():
    """Except for the parts that depend on padding as published, which are replaced here: the backbone and the norms of
    the neck, which include zeros around the image, and query positions, which are relative to the padded image."""
    detector = small_dino().eval()
    detector.backbone.forward = lambda x: [
        nn.functional.avg_pool2d(x.repeat(1, width // 3, 1, 1), stride, ceil_mode=True, count_include_pad=False)
        for width, stride in zip(detector.backbone.channels, detector.backbone.strides, strict=True)
    ]
    for norm in (detector.neck.extra.norm, *(conv.norm for conv in detector.neck.convs)):
        norm.forward = lambda x: x
    detector.decoder.place.forward = lambda embedded: embedded[..., :64] * 0
    batch = [torch.rand(3, 64, 128), torch.rand(3, 64, 64)]
    detector.images.max_size = 128
    with torch.no_grad():
        together = detector(batch)
        for image, found in zip(batch, together, strict=True):
            (alone,) = detector([image])
            torch.testing.assert_close(found["scores"], alone["scores"], atol=1e-5, rtol=0)
            torch.testing.assert_close(found["boxes"], alone["boxes"], atol=1e-3, rtol=0)
            assert torch.equal(found["labels"], alone["labels"])


@pytest.mark.parametrize("size", [(33, 47), (97, 64), (20, 200)])
def test_images_of_any_size_work_in_training_and_evaluation(size):
    detector = small_dino()
    losses = detector.train()([torch.rand(3, *size)], [target((0, 1, 1, 30, 15))])
    assert all(loss.isfinite() for loss in losses.values())
    (found,) = detector.eval()([torch.rand(3, *size)])
    assert found["boxes"].shape == (36, 4)
    height, width = size
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
    assert (found["scores"][:-1] >= found["scores"][1:]).all()


def test_more_queries_than_tokens_are_accepted():
    """Levels of 4 x 4, 2 x 2, 1 x 1 and 1 x 1 have 22 tokens."""
    detector = small_dino(queries=100).train()
    batch = [torch.rand(3, 32, 32)]
    sum(detector(batch, [target((0, 1, 1, 30, 30))]).values()).backward()
    assert detector.selection.content.weight.grad[:22].any()
    detector.images.min_size = (32,)
    (found,) = detector.eval()(batch)
    assert len(found["scores"]) == 22 * 3


def test_more_objects_than_queries_are_accepted():
    crowd = target(*[(i % 3, i, i, i + 20, i + 20) for i in range(20)])
    losses = small_dino().train()([torch.rand(3, 64, 64)], [crowd])
    assert all(loss.isfinite() for loss in losses.values())


def test_the_best_scores_over_queries_and_classes_are_kept():
    """A query may be kept twice, with two classes; boxes are clipped to the image."""
    probabilities = torch.tensor([[[0.9, 0.2], [0.1, 0.3], [0.8, 0.7]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1], [0.9, 0.5, 0.4, 0.2]]])
    (found,) = top_detections(probabilities.logit(), boxes, [(100, 50)], most=4)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.3])
    assert found["labels"].tolist() == [0, 0, 1, 1]
    want = [[20, 30, 30, 70], [35, 40, 50, 60], [35, 40, 50, 60], [2.5, 5, 7.5, 15]]
    torch.testing.assert_close(found["boxes"], torch.tensor(want), atol=1e-4, rtol=0)


def test_gradient_checkpointing_does_not_change_gradients():
    detector, batch, found = small_dino().train(), images(), []
    for enable in (False, True):
        detector.set_grad_checkpointing(enable)
        detector.zero_grad()
        torch.manual_seed(1)
        sum(detector(batch, TARGETS).values()).backward()
        found.append([parameter.grad.clone() for parameter in detector.parameters()])
    assert all(layer.gradient_checkpointing for layer in (*detector.encoder.layers, *detector.decoder.layers))
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept, atol=1e-4, rtol=1e-4)


def test_bf16_losses_are_close_to_those_in_float32():
    detector, batch, found = small_dino().train(), images(), []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(detector(batch, TARGETS))
    for name, loss in found[0].items():
        assert found[1][name].dtype == torch.float32
        assert found[1][name].item() == pytest.approx(loss.item(), rel=0.1), name


@pytest.mark.parametrize("missing", ["transformers", "scipy"])
def test_a_missing_package_raises_a_one_line_error(monkeypatch, missing):
    found = create.find_spec
    monkeypatch.setattr(create, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(FovealError, match=r"^DINO needs \w+: install it with `pip install 'foveal\[dense\]'`\.$"):
        small_dino()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(num_levels=3), "4 or 5 levels"),
        (dict(dim=40), "times 32, not 40"),
        (dict(dim=32), "times 32, not 32"),
        (dict(heads=5), "5 heads must divide"),
        (dict(queries=0), "at least 1"),
        (dict(heads=0), "at least 1"),
        (dict(anchors=3), "no option anchors"),
    ],
)
def test_invalid_settings_raise_a_one_line_error(options, sentence):
    with pytest.raises(FovealError, match=sentence):
        small_dino(**options)
