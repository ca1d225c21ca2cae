"""Segments of label maps, bipartite matching, and losses."""

import itertools
import math

import pytest
import torch
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.mask2former import losses as losses_module
from foveal.tasks.segmentation.mask2former.losses import class_loss, costs, mask_losses, match, set_losses
from foveal.tasks.segmentation.mask2former.points import Segments, sample, sample_segments, uncertain_points
from support.plain_dino import bilinear

LABELS = torch.tensor([[[3, 3, 1], [IGNORED, 1, 1]], [[IGNORED] * 3] * 2, [[2, 2, 2]] * 2])


def test_each_class_that_occurs_is_a_segment_and_ignored_pixels_are_not():
    segments = Segments.of(LABELS, 4)
    assert segments.labels.tolist() == [[1, 3], [0, 0], [2, 0]]
    assert segments.counts == (2, 0, 1)


def test_an_invalid_label_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"^labels must be below 3, or 255 where ignored, not 3$"):
        Segments.of(LABELS, 3)


def test_segments_are_sampled_bilinearly():
    points = torch.cat((torch.rand(2, 40, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).expand(2, -1, -1)), 1).double()
    image, label = torch.tensor([0, 2]), torch.tensor([1, 2])
    found = sample_segments(LABELS, image, label, points)
    for number in range(2):
        mask = (LABELS[image[number]] == label[number]).double()[..., None]
        want = [bilinear(mask, x * 3, y * 2).item() for x, y in points[number].tolist()]
        assert found[number].tolist() == pytest.approx(want, abs=1e-12)


def test_points_of_an_image_are_sampled_for_all_its_segments():
    points, image = torch.rand(3, 9, 2), torch.arange(3)
    labels = torch.tensor([[1, 3], [1, 2], [2, 1]])
    found = sample_segments(LABELS, image[:, None], labels, points[:, None])
    for place in range(2):
        assert torch.equal(found[:, place], sample_segments(LABELS, image, labels[:, place], points))


def test_masks_are_sampled_bilinearly():
    masks, points = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 7, 2, dtype=torch.float64)
    found = sample(masks, points)
    for image, place in itertools.product(range(2), range(7)):
        x, y = points[image, place].tolist()
        want = bilinear(masks[image].permute(1, 2, 0), x * 5, y * 4)
        torch.testing.assert_close(found[image, :, place], want, atol=1e-12, rtol=0)


def test_three_quarters_of_the_points_are_the_most_uncertain_of_three_times_as_many():
    """The logits of the mask grow from left to right, so the most uncertain points are on the left."""
    mask = torch.linspace(1, 10, 101).expand(1, 400, 101).contiguous()
    points = uncertain_points(mask, 400)
    assert points.shape == (1, 400, 2)
    x = points[0, :, 0]
    # 300 of 1200 are a quarter; 100 more are anywhere, so a quarter of them is on the left too.
    assert x[:300].max().item() == pytest.approx(0.25, abs=0.05)
    assert x[300:].max() > 0.9
    assert (x[300:] < 0.25).float().mean().item() == pytest.approx(0.25, abs=0.15)


def plain_costs(logits, masks, label, targets):
    """Costs of one prediction for one segment: class, cross entropy and dice, with the weights of section 3.2."""
    odds = [math.exp(x) for x in logits]
    found = [1 / (1 + math.exp(-x)) for x in masks]
    entropy = [-t * math.log(p) - (1 - t) * math.log(1 - p) for p, t in zip(found, targets, strict=True)]
    shared = sum(p * t for p, t in zip(found, targets, strict=True))
    dice = 1 - (2 * shared + 1) / (sum(found) + sum(targets) + 1)
    return -2 * odds[label] / sum(odds) + 5 * sum(entropy) / len(entropy) + 5 * dice


def test_costs_match_the_paper():
    logits, masks = torch.randn(2, 3, 5, dtype=torch.float64), 3 * torch.randn(2, 3, 6, dtype=torch.float64)
    labels, targets = torch.tensor([[0, 3], [2, 1]]), torch.rand(2, 2, 6, dtype=torch.float64)
    found = costs(logits, masks, labels, targets)
    for b, q, m in itertools.product(range(2), range(3), range(2)):
        want = plain_costs(logits[b, q].tolist(), masks[b, q].tolist(), labels[b, m].item(), targets[b, m].tolist())
        assert found[b, q, m].item() == pytest.approx(want, rel=1e-12)


def predictions(layers, queries, classes, batch=3):
    logits = [torch.randn(batch, queries, classes + 1, requires_grad=True) for _ in range(layers)]
    masks = [torch.randn(batch, queries, 2, 3, requires_grad=True) for _ in range(layers)]
    return logits, masks


def test_assignments_have_minimum_cost_in_every_layer_and_image():
    """Predicted masks are nearly flat and classes are clear, so costs at other points give the same assignment."""
    torch.manual_seed(2)
    segments = Segments.of(LABELS, 4)
    logits, masks = predictions(2, 4, 4)
    logits, masks = [4 * each.detach() for each in logits], [0.01 * each.detach() for each in masks]
    pairs = match(logits, masks, segments, 2000)
    assert pairs.image.tolist() == [0, 0, 2]
    at = torch.rand(3, 2000, 2)
    for layer in range(2):
        assert sorted(pairs.label[layer, :2].tolist()) == [1, 3]
        assert pairs.label[layer, 2] == 2
        targets = sample_segments(LABELS, torch.arange(3)[:, None], segments.labels, at[:, None])
        table = costs(logits[layer], sample(masks[layer], at), segments.labels, targets)
        best = min(itertools.permutations(range(4), 2), key=lambda two: sum(table[0, q, m] for m, q in enumerate(two)))
        found = dict(zip(pairs.label[layer].tolist(), pairs.query[layer].tolist(), strict=True))
        assert (found[1], found[3]) == best
        assert found[2] == table[2, :, 0].argmin()


def test_segments_beyond_the_number_of_queries_are_unmatched():
    logits, masks = predictions(1, 1, 4)
    pairs = match(logits, masks, Segments.of(LABELS, 4), 50)
    assert pairs.image.tolist() == [0, 2]
    assert pairs.query.tolist() == [[0, 0]]


def test_nan_predictions_are_matched():
    logits, masks = predictions(1, 4, 4)
    pairs = match(logits, [masks[0].detach() * math.nan], Segments.of(LABELS, 4), 50)
    assert sorted(pairs.label[0].tolist()) == [1, 2, 3]


def test_the_class_loss_weighs_no_object_by_one_tenth():
    logits, wanted = torch.randn(2, 3, 4, dtype=torch.float64), torch.tensor([[0, 3, 2], [3, 3, 1]])
    total = weight = 0.0
    for row, label in zip(logits.flatten(0, 1).tolist(), wanted.flatten().tolist(), strict=True):
        share = 0.1 if label == 3 else 1.0
        total -= share * (row[label] - math.log(sum(map(math.exp, row))))
        weight += share
    assert class_loss(logits, wanted).item() == pytest.approx(total / weight, rel=1e-12)


def test_mask_losses_are_cross_entropy_and_dice_at_the_sampled_points(monkeypatch):
    points = torch.rand(2, 8, 2, dtype=torch.float64)
    monkeypatch.setattr(losses_module, "uncertain_points", lambda masks, count: points)
    masks = torch.randn(2, 4, 5, dtype=torch.float64)
    image, label = torch.tensor([0, 2]), torch.tensor([3, 2])
    entropy, dice = mask_losses(masks, image, label, Segments.of(LABELS, 4), 8)
    want_entropy = want_dice = 0.0
    for number in range(2):
        target = (LABELS[image[number]] == label[number]).double()[..., None]
        places = points[number].tolist()
        x = [bilinear(masks[number][..., None], x * 5, y * 4).item() for x, y in places]
        t = [bilinear(target, x * 3, y * 2).item() for x, y in places]
        want = plain_costs([-math.inf, 0.0], x, 0, t)  # the class cost is 0
        p = [1 / (1 + math.exp(-each)) for each in x]
        shared = sum(a * b for a, b in zip(p, t, strict=True))
        this_dice = 1 - (2 * shared + 1) / (sum(p) + sum(t) + 1)
        want_dice += this_dice
        want_entropy += want / 5 - this_dice
    assert (entropy.item(), dice.item()) == pytest.approx((want_entropy, want_dice), rel=1e-9)


def test_losses_of_one_image_and_layer_match_transformers():
    """With one image and one layer both sample the same points."""
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    config = Mask2FormerConfig(
        num_labels=4, train_num_points=60, oversample_ratio=3.0, importance_sample_ratio=0.75, no_object_weight=0.1
    )
    logits, masks = predictions(1, 5, 4, batch=1)
    torch.manual_seed(7)
    found = set_losses(logits, masks, Segments.of(LABELS[:1], 4), 60)
    targets = torch.stack([LABELS[0] == label for label in (1, 3)]).float()
    torch.manual_seed(7)
    want = Mask2FormerLoss(config, weights)(masks[0], logits[0], [targets], [torch.tensor([1, 3])])
    names = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}
    for name, theirs in names.items():
        assert found[name].item() == pytest.approx(weights[theirs] * want[theirs].item(), rel=1e-5), name


def test_losses_are_summed_over_layers_and_divided_by_the_segments(monkeypatch):
    """Two layers with the same predictions have twice the loss of one, for any sampled points."""
    logits, masks = predictions(1, 5, 4)
    flat = [torch.full_like(masks[0], 0.3)]
    labels = torch.full((3, 40, 40), 2)
    segments = Segments.of(labels, 4)
    monkeypatch.setattr(losses_module, "uncertain_points", lambda m, count: 0.3 + 0.4 * torch.rand(len(m), count, 2))
    one = set_losses(logits, flat, segments, 30)
    two = set_losses(logits * 2, flat * 2, segments, 30)
    for name in one:
        assert two[name].item() == pytest.approx(2 * one[name].item(), rel=1e-4), name
    # Every point is inside the only segment of its image; the losses of the three images are equal.
    assert one["mask"].item() == pytest.approx(5 * math.log(1 + math.exp(-0.3)), rel=1e-4)


def test_layers_are_matched_independently():
    """The second layer has the queries of the first in reverse order, so its losses are the same."""
    pixels = torch.arange(8).div(4, rounding_mode="floor").expand(1, 8, 8)
    masks = torch.where(torch.stack((pixels[0] == 0, pixels[0] == 1, pixels[0] > 1)), 30.0, -30.0)[None]
    logits = 20 * torch.eye(3)[None]
    found = set_losses([logits, logits.flip(1)], [masks, masks.flip(1)], Segments.of(pixels, 2), 200)
    assert found["class"].item() == pytest.approx(0, abs=1e-4)
    assert found["dice"].item() < 3  # borders contribute to the loss; with wrong pairs it is 10


def test_images_without_labels_only_train_the_no_object_class():
    logits, masks = predictions(2, 4, 4)
    found = set_losses(logits, masks, Segments.of(torch.full((3, 8, 8), IGNORED), 4), 20)
    assert found["mask"].item() == found["dice"].item() == 0
    sum(found.values()).backward()
    for each in logits:
        assert (each.grad[..., -1] < 0).all()
    for each in masks:
        assert torch.equal(each.grad, torch.zeros_like(each))


def test_costs_are_distinguished_in_mixed_precision():
    """All masks are correct, and one per segment is slightly more certain than the others."""
    pixels = torch.arange(8).div(4, rounding_mode="floor").expand(1, 8, 8)
    sureness = 3 + 0.01 * torch.tensor([3, 5, 0, 7, 1, 6, 2, 4])
    right = torch.where(pixels == 0, sureness[:, None, None], -sureness[:, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        pairs = match([torch.zeros(1, 16, 3)], [torch.cat((right, -right))[None]], Segments.of(pixels, 2), 4000)
    assert pairs.label.tolist() == [[0, 1]]
    assert pairs.query.tolist() == [[3, 11]]


def test_sums_over_points_do_not_overflow_in_float16():
    """One mask covers everything, the other one only its segment."""
    pixels = torch.where(torch.arange(8) < 4, IGNORED, 0).expand(1, 8, 8)
    half = torch.where(pixels == 0, 40.0, -40.0)
    with torch.autocast("cpu", torch.float16):
        pairs = match([torch.zeros(1, 2, 2)], [torch.stack((half.abs(), half), 1)], Segments.of(pixels, 1), 4000)
    assert pairs.query.tolist() == [[1]]


def test_losses_of_half_precision_predictions_are_computed_in_float32():
    logits, masks = predictions(1, 4, 4)
    torch.manual_seed(3)
    found = set_losses([logits[0].bfloat16()], [masks[0].bfloat16()], Segments.of(LABELS, 4), 20)
    torch.manual_seed(3)
    rounded = set_losses([logits[0].bfloat16().float()], [masks[0].bfloat16().float()], Segments.of(LABELS, 4), 20)
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        assert torch.equal(loss, rounded[name])
