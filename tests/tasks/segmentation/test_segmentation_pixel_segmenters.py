"""UPerNet and Semantic FPN: any image size, losses as in MMSegmentation, and requirements of the training loop."""

import copy
import math

import pytest
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.segmentation import IGNORED, create_segmenter
from foveal.tasks.segmentation.segmenter import pixel_cross_entropy
from support.pixel_segmenters import SMALL, batch, small_segmenter

NAMES = ["upernet", "semantic_fpn"]
SIZES = [(64, 96), (33, 47), (20, 70), (7, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_size_of_the_image(name, size):
    segmenter = small_segmenter(name).eval()
    images, _ = batch(*size)
    with torch.no_grad():
        scores = segmenter(images)
    assert scores.shape == (2, 5, *size)
    assert scores.isfinite().all()
    assert scores.flatten(2).std(2).min() > 0


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (20, 20)])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name, size):
    segmenter = small_segmenter(name)
    losses = segmenter(*batch(*size))
    assert losses.keys() == ({"loss_decode", "loss_auxiliary"} if name == "upernet" else {"loss_decode"})
    sum(losses.values()).backward()
    assert [n for n, p in segmenter.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    if size == (64, 96):  # smaller images have maps of one position, normalised to a constant
        assert [n for n, p in segmenter.named_parameters() if not p.grad.any()] == []


def test_pixel_cross_entropy_matches_a_manual_computation():
    """Two classes with logits 0 and log 3 have probabilities 1/4 and 3/4; the mean includes the ignored pixel."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
    labels = torch.tensor([[[0, 1], [1, IGNORED]]])
    expected = (math.log(4) + 2 * math.log(4 / 3)) / 4
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_logits_are_resized_between_pixel_centres():
    """Two columns 0 and 4 become 0, 1, 3, 4, against a class with logit 0."""
    logits = torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]])[None]
    expected = sum(math.log(1 + math.exp(-x)) for x in (0, 1, 3, 4)) / 4
    assert pixel_cross_entropy(logits, torch.zeros(1, 1, 4).long()).item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_computed_in_float32_for_any_logits_dtype():
    logits = torch.randn(1, 3, 4, 4).bfloat16()
    labels = torch.randint(0, 3, (1, 16, 16))
    loss = pixel_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pixel_cross_entropy(logits.float(), labels), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_do_not_count(name):
    """The losses of two halves of the labels add up to the loss of all labels."""
    segmenter = small_segmenter(name, dropout=0.0)
    images, labels = batch(64, 64)
    half = labels.clone()
    half[:, :, 32:] = IGNORED
    whole, left, right = (
        sum(segmenter(images, of).values()) for of in (labels, half, torch.where(half == 255, labels, 255))
    )
    torch.testing.assert_close(left + right, whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_labels_has_zero_loss_and_gradients(name):
    segmenter = small_segmenter(name)
    images, labels = batch(64, 64)
    losses = segmenter(images, torch.full_like(labels, IGNORED))
    assert all(loss.item() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert not any(p.grad.any() for p in segmenter.parameters())  # also fails on NaN


@pytest.mark.parametrize("name", NAMES)
def test_the_padding_of_small_images_is_ignored(name):
    """Images of 20 x 24 equal mean-coloured images of 32 x 32 with all further pixels ignored."""
    segmenter = small_segmenter(name, dropout=0.0)
    images, labels = batch(20, 24)
    padded = segmenter.mean.expand(2, 3, 1, 1).repeat(1, 1, 32, 32)
    padded[..., :20, :24] = images
    wanted = segmenter(padded, torch.nn.functional.pad(labels, (0, 8, 0, 12), value=IGNORED))
    torch.testing.assert_close(segmenter(images, labels), wanted)


def test_too_many_classes_are_rejected():
    with pytest.raises(FovealError, match="num_classes must be at most 255, which is the label of ignored pixels, not"):
        create_segmenter("semantic_fpn", "transxnet_atto", 256)


def test_the_auxiliary_loss_is_weighted_and_optional():
    images, labels = batch(64, 64)
    losses = {}
    for weight in (0.4, 1.0, 0.0):
        torch.manual_seed(0)
        losses[weight] = small_segmenter("upernet", dropout=0.0, auxiliary_weight=weight)(images, labels)
    torch.testing.assert_close(losses[0.4]["loss_auxiliary"], 0.4 * losses[1.0]["loss_auxiliary"])
    assert losses[0.0].keys() == {"loss_decode"}


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_applied_before_the_classifiers_only_in_training(name):
    segmenter = small_segmenter(name, dropout=0.5)
    heads = [head for head in (segmenter.decode_head, getattr(segmenter, "auxiliary_head", None)) if head]
    inputs = []
    for head in heads:
        head.classifier.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    segmenter(*batch(64, 64))
    assert len(inputs) == len(heads)
    for x in inputs:
        dropped = ~x.flatten(2).any(2)
        assert 0 < dropped.float().mean() < 1
    segmenter.eval()
    with torch.no_grad():
        first, second = (segmenter(batch(64, 64)[0]) for _ in "ab")
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_initialisation_matches_mmsegmentation(name):
    """Classifiers have std 0.01, convolutions before ReLUs sqrt(2 / fan-out), and biases are 0."""
    width = dict(upernet=dict(channels=64, auxiliary_channels=64), semantic_fpn=dict(channels=64, pyramid_channels=64))
    segmenter = create_segmenter(name, "transnext_atto", 150, reference_size=64, **width[name])
    for head in (segmenter.decode_head, getattr(segmenter, "auxiliary_head", None)):
        if head is None:
            continue
        assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not head.classifier.bias.any()
        convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d) and m is not head.classifier]
        assert all(m.bias is None for m in convolutions)
        for m in convolutions:
            expected = math.sqrt(2 / (m.out_channels * m.kernel_size[0] ** 2))
            assert m.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_timm_models_can_be_backbones(name):
    segmenter = create_segmenter(name, "resnet18", 3, backbone_args=dict(out_indices=(1, 2, 3, 4)), **SMALL[name])
    images, labels = batch(40, 56, classes=3)
    sum(segmenter(images, labels).values()).backward()
    assert all(p.grad is not None for p in segmenter.parameters())
    assert segmenter.eval()(images).shape == (2, 3, 40, 56)


@pytest.mark.parametrize("mode", ["interpolate", "extrapolate"])
def test_the_position_bias_mode_is_passed_to_the_backbone(mode):
    segmenter = create_segmenter("upernet", "transnext_atto", position_bias=mode, **SMALL["upernet"])
    geometries = [stage.blocks[0].attn.geometry for stage in segmenter.backbone.body.stages]
    assert [g.interpolate for g in geometries] == [mode == "interpolate"] * 4
    assert [g.reference for g in geometries] == [(128, 128), (64, 64), (32, 32), (16, 16)]  # of 512 x 512


@pytest.mark.parametrize("name", NAMES)
def test_loading_a_state_dict_reproduces_the_outputs(name):
    images, _ = batch(33, 47)
    first, second = (small_segmenter(name).eval() for _ in "ab")
    with torch.no_grad():
        assert not torch.equal(first(images), second(images))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("name", NAMES)
def test_copies_share_no_tensors(name):
    """EMA weights are kept in a deep copy."""
    segmenter = small_segmenter(name).eval()
    images, _ = batch(33, 47)
    copied = copy.deepcopy(segmenter)
    with torch.no_grad():
        before = segmenter(images)
        assert torch.equal(copied(images), before)
        for parameter in copied.parameters():
            parameter.add_(1)
        assert torch.equal(segmenter(images), before)
        assert not torch.equal(copied(images), before)


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_can_be_synchronised(name):
    """Every batch norm is replaced, and outputs in evaluation mode do not change."""
    segmenter = small_segmenter(name).eval()
    images, _ = batch(33, 47)
    with torch.no_grad():
        before = segmenter(images)
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
        assert not any(type(m) is nn.BatchNorm2d for m in converted.modules())
        torch.testing.assert_close(converted(images), before)
        ran = []
        for module in converted.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.register_forward_hook(lambda module, *_: ran.append(module))
        converted(images)
        heads = [m for m in converted.decode_head.modules() if isinstance(m, nn.SyncBatchNorm)]
        assert set(heads) <= set(ran)


def test_upernet_cannot_be_trained_with_one_image():
    """A map pooled to one position; the loop rejects such a batch in advance, and otherwise PyTorch does."""
    images, labels = batch(64, 64, images=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        small_segmenter("upernet")(images, labels)


def test_missing_transformers_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr("foveal.tasks.dense.create.find_spec", lambda name: None)
    with pytest.raises(FovealError, match=r"UPerNet needs transformers.*foveal\[dense\]"):
        small_segmenter("upernet")
