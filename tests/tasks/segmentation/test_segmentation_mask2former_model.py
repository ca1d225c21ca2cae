"""Mask2Former end to end: published counts, gradients, any image size, and scores computed by hand."""

import copy
import importlib.util
import io

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.dense.counting import count_dense
from foveal.tasks.segmentation import IGNORED, create_segmenter
from foveal.tasks.segmentation.mask2former import model as module
from foveal.tasks.segmentation.mask2former.model import combine
from support.accuracy import relative_error

CLASSES = 4
SMALL = dict(
    queries=6, dim=64, heads=4, encoder_layers=1, encoder_mlp_dim=16, decoder_layers=3, mlp_dim=16, train_points=40
)


def small(backbone="transnext_atto", **options):
    """A Mask2Former with one block per stage, in training mode."""
    settings = dict(reference_size=64, backbone_args=dict(depths=(1, 1, 1, 1)))
    return create_segmenter("mask2former", backbone, CLASSES, **{**settings, **SMALL, **options})


def batch(height=64, width=96, count=2):
    """Noise images with labels in blocks, some pixels ignored."""
    images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(height)[:, None] // 24 + torch.arange(width) // 40) % CLASSES
    labels[: height // 8] = IGNORED
    return images, labels.expand(count, -1, -1)


@pytest.mark.parametrize(("size", "printed"), [("tiny", "47.5"), ("small", "69.0"), ("base", "109")])
def test_parameters_match_the_published_values(size, printed):
    """From TransNeXt's Mask2Former table, in millions, to its printed precision."""
    with torch.device("meta"):
        segmenter = create_segmenter("mask2former", f"transnext_{size}", 150)
    params = sum(parameter.numel() for parameter in segmenter.parameters()) / 1e6
    assert f"{params:.{len(printed.partition('.')[2])}f}" == printed


def test_multiply_adds_are_counted_on_the_meta_device():
    with torch.device("meta"):
        segmenter = small()
    count = count_dense(segmenter, (64, 96))
    assert count.params == sum(parameter.numel() for parameter in segmenter.parameters())
    heads = ("pixel_decoder", "transformer", "classes")
    assert all(any(name.startswith(head) for name in count.modules) for head in heads)


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "all ignored"])
@pytest.mark.parametrize("backbone", ["transnext_atto", "transxnet_atto"])
def test_every_parameter_has_a_gradient(backbone, labelled):
    segmenter = small(backbone)
    for layer in segmenter.pixel_decoder.encoder.layers:  # initially zero
        torch.nn.init.normal_(layer.self_attn.attention_weights.weight)
    images, labels = batch()
    losses = segmenter(images, labels if labelled else torch.full_like(labels, IGNORED))
    assert set(losses) == {"loss_class", "loss_mask", "loss_dice"}
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    without = [n for n, p in segmenter.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    still = [n for n, p in segmenter.named_parameters() if not p.grad.any()]
    if labelled:  # a key bias shifts all logits of a query equally, which does not change the softmax
        assert [n for n in still if not n.startswith("backbone.") and not n.endswith("k_proj.bias")] == []


def test_an_image_without_labels_can_be_batched_with_a_labelled_one():
    images, labels = batch()
    labels = torch.stack((labels[0], torch.full_like(labels[0], IGNORED)))
    losses = small()(images, labels)
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())


@pytest.mark.parametrize(("height", "width"), [(33, 47), (20, 70), (1, 1), (64, 64)])
def test_images_of_any_size_are_trained_on_and_segmented_at_their_size(height, width):
    segmenter = small()
    images, labels = batch(height, width, count=1)
    assert torch.isfinite(sum(segmenter(images, labels).values()))
    with torch.no_grad():
        assert segmenter.eval()(images).shape == (1, CLASSES, height, width)


def test_evaluation_pads_normalised_images_with_zeros_to_multiples_of_32():
    segmenter, (images, _) = small().eval(), batch(50, 70)
    padded = segmenter.mean.expand(2, 3, 64, 96).clone()
    padded[..., :50, :70] = images
    with torch.no_grad():
        assert torch.equal(segmenter(images), segmenter(padded)[..., :50, :70])


def test_timm_models_can_be_backbones():
    segmenter = small("resnet18", backbone_args=None)
    images, labels = batch()
    sum(segmenter(images, labels).values()).backward()
    assert all(p.grad is not None for p in segmenter.parameters())
    with torch.no_grad():
        assert segmenter.eval()(images).shape == (2, CLASSES, 64, 96)


def test_losses_are_determined_by_the_seed():
    segmenter, found = small(), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append([loss.item() for loss in segmenter(*batch()).values()])
    assert found[0] == found[1] != found[2]


@torch.no_grad()
def test_a_query_with_an_empty_mask_attends_everywhere():
    """Constant mask logits of 3 and -3 give the same queries."""
    segmenter, found = small().eval(), []
    projection, last = segmenter.pixel_decoder.mask_projection, segmenter.transformer.decoder.mask_predictor
    maps = segmenter.backbone(batch()[0])
    projection.weight.zero_()
    projection.bias.fill_(1 / 64)
    for logit in (3.0, -3.0):
        linear = last.mask_embedder.layers[-1].layers[0]
        linear.weight.zero_()
        linear.bias.fill_(logit)
        queries, masks = segmenter._decode(maps)
        assert torch.allclose(torch.stack(masks), torch.tensor(logit))
        found.append(torch.stack(queries))
    assert relative_error(*found) < 1e-6


def test_images_of_a_batch_are_independent():
    segmenter, (images, _) = small().eval(), batch()
    with torch.no_grad():
        assert relative_error(segmenter(images)[1:], segmenter(images[1:])) < 1e-5


def test_copies_and_restored_models_give_the_same_scores():
    segmenter, (images, _) = small().eval(), batch()
    content = io.BytesIO()
    torch.save(segmenter.state_dict(), content)
    content.seek(0)
    restored = small().eval()
    restored.load_state_dict(torch.load(content, weights_only=True))
    copied = copy.deepcopy(segmenter)
    with torch.no_grad():
        want = segmenter(images)
        for parameter in segmenter.parameters():  # copies share no tensors
            parameter.zero_()
        assert torch.equal(copied(images), want)
        assert torch.equal(restored(images), want)


def test_bfloat16_losses_are_close_to_those_in_float32():
    segmenter, found = small(), []
    for enabled in (False, True):
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = segmenter(*batch())
        sum(losses.values()).backward()
        found.append([loss.item() for loss in losses.values()])
        assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_scores_are_class_probabilities_times_upsampled_masks():
    """Two queries, one class, and a mask of two pixels upsampled to four: logits 0, 1, 3, 4, then the sigmoid."""
    masks = torch.tensor([[[[0.0, 4.0]], [[-2.0, -2.0]]]], dtype=torch.float64)
    classes = torch.tensor([[[0.5], [0.25]]], dtype=torch.float64)
    found = combine(classes, masks, (1, 4))
    logits = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=torch.float64)
    want = 0.5 * logits.sigmoid() + 0.25 * torch.tensor(-2.0, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(found[0, 0, 0], want)


def test_masks_upsampled_in_chunks_give_the_same_scores(monkeypatch):
    classes, masks = torch.rand(2, 7, 3, dtype=torch.float64), torch.randn(2, 7, 4, 5, dtype=torch.float64)
    whole = combine(classes, masks, (9, 11))
    monkeypatch.setattr(module, "UPSAMPLED", 3 * 2 * 9 * 11)
    assert relative_error(combine(classes, masks, (9, 11)), whole) < 1e-13


def test_the_no_object_class_is_excluded_and_scores_are_averaged_unchanged():
    """All queries predict no object, so no class has a score."""
    segmenter, (images, _) = small().eval(), batch()
    with torch.no_grad():
        segmenter.classes.weight.zero_()
        segmenter.classes.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 50.0]))
        scores = segmenter(images)
    assert scores.max() < 1e-6
    assert segmenter.probabilities(scores) is scores


def test_query_and_level_embeddings_have_no_weight_decay():
    segmenter = small()
    names = segmenter.no_weight_decay()
    assert names <= dict(segmenter.named_parameters()).keys()
    wanted = {"queries_embedder", "queries_features", "level_embed"}
    assert {name.split(".")[1] for name in names if name.startswith("transformer.")} == wanted


@pytest.mark.parametrize("package", ["transformers", "scipy"])
def test_a_missing_package_names_the_extra_to_install(package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("foveal.tasks.dense.create.find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(FovealError, match=rf"^Mask2Former needs (?i:{package}): .*pip install 'foveal\[dense\]'`\.$"):
        small()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(queries=0), "must be at least 1"),
        (dict(decoder_layers=2), "decoder_layers must be at least 3, not 2"),
        (dict(dim=32, heads=4), r"dim must be 2, 3, \.\.\. times 32, not 32"),
        (dict(heads=5), "5 heads must divide its dim, 64"),
        (dict(points=3), "mask2former has no option points"),
    ],
)
def test_invalid_settings_are_rejected(options, sentence):
    with pytest.raises(FovealError, match=sentence):
        small(**options)
