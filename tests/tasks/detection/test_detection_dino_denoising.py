"""Contrastive denoising: noise on labels and boxes, attention masks, and reconstruction targets."""

import pytest
import torch

from foveal.tasks.detection.dino.denoising import Denoising, attention_mask, denoising_pairs, flip_labels, move_boxes
from foveal.tasks.detection.dino.matching import Objects, to_corners


def target(*rows):
    """A target from rows of (label, x1, y1, x2, y2)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    return {"labels": table[:, 0].long(), "boxes": table[:, 1:]}


TARGETS = [target((2, 10, 20, 30, 60)), target(), target((0, 0, 0, 50, 25), (1, 25, 25, 75, 50))]
SIZES = [(100, 50), (80, 80), (50, 100)]


def test_boxes_are_relative_to_their_image_and_padded_to_the_largest_count():
    objects = Objects.from_targets(TARGETS, SIZES)
    assert objects.counts == (1, 0, 2)
    assert objects.labels.tolist() == [[2, 0], [0, 0], [0, 1]]
    assert objects.present.tolist() == [[True, False], [False, False], [True, True]]
    assert objects.boxes[0, 0].tolist() == pytest.approx([0.4, 0.4, 0.4, 0.4])
    assert objects.boxes[2].flatten().tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("labels", [torch.int32, torch.uint8, torch.float32])
@pytest.mark.parametrize("boxes", [torch.float64, torch.bfloat16, torch.int64])
def test_boxes_and_labels_may_have_other_dtypes(labels, boxes):
    """A size of 1333 pixels, not representable in bfloat16, is not rounded."""
    want = Objects.from_targets([TARGETS[1], TARGETS[0]], [(80, 80), (100, 1333)])
    cast = [{"labels": t["labels"].to(labels), "boxes": t["boxes"].to(boxes)} for t in (TARGETS[1], TARGETS[0])]
    found = Objects.from_targets(cast, [(80, 80), (100, 1333)])
    assert (found.labels.dtype, found.boxes.dtype) == (torch.int64, torch.float32)
    assert torch.equal(found.labels, want.labels)
    assert torch.equal(found.boxes, want.boxes)


def test_half_of_the_label_noise_is_resampled_from_all_classes():
    """A noise of 0.5 resamples a quarter; one in five of these keeps its class: 0.2 change, evenly over the classes."""
    labels = torch.full((40000,), 3)
    flipped = flip_labels(labels, noise=0.5, num_classes=5)
    shares = flipped.bincount(minlength=5) / len(labels)
    # Five standard deviations of a share of 0.05 in 40000 samples.
    assert shares[[0, 1, 2, 4]].tolist() == pytest.approx([0.05] * 4, abs=0.0055)
    assert len(shares) == 5


def noised_corners(boxes, turns, noise=1.0):
    """Displacement of corners in units of half the box side: (2, turns, 4), positives first."""
    moved = to_corners(move_boxes(boxes.repeat(1, 2 * turns, 1), boxes.shape[1], noise))
    still = to_corners(boxes).repeat(1, 2 * turns, 1)
    halves = boxes[..., 2:].repeat(1, 2 * turns, 2) / 2
    return ((moved - still) / halves).view(turns, 2, -1, 4).transpose(0, 1).flatten(1, 2)


def test_positives_move_by_up_to_half_a_side_and_negatives_by_half_to_one():
    """For boxes well inside of the image, all moves occur in both directions."""
    boxes = torch.tensor([[[0.5, 0.4, 0.1, 0.2], [0.6, 0.5, 0.3, 0.1]]])
    positive, negative = noised_corners(boxes, turns=2000)
    assert positive.abs().max() <= 1 + 1e-5
    # Corners that cross give an empty box; only those still in order show their displacement.
    low, high = negative.chunk(2, -1)
    ordered = (high - low + 2) > 0.1
    moves = torch.cat((low[ordered], high[ordered])).abs()
    assert moves.min() >= 1 - 1e-4
    assert moves.max() <= 2 + 1e-4
    for part in (positive, torch.cat((low[ordered], high[ordered]))):
        assert 0.45 < (part > 0).float().mean() < 0.55


def test_the_box_noise_scales_all_moves():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    positive, negative = noised_corners(boxes, turns=2000, noise=0.4)
    assert 0.39 < positive.abs().max() <= 0.4 + 1e-5
    assert negative.abs().min() >= 0.4 - 1e-4
    assert 0.79 < negative.abs().max() <= 0.8 + 1e-4


def test_noised_boxes_stay_in_the_image():
    boxes = torch.tensor([[[0.05, 0.95, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]]])
    moved = move_boxes(boxes.repeat(1, 400, 1), 2, 1.0)
    corners = to_corners(moved)
    # Boxes are kept 0.001 from 0 and 1 before the sigmoid; a corner may be that far out.
    assert corners.min() > -1.5e-3
    assert corners.max() < 1 + 1.5e-3
    assert moved.min() > 0.0009


def test_noised_queries_have_label_embeddings_and_padding_is_zero():
    denoising = Denoising(num_classes=4, dim=8, queries=5, label_noise=1e-9)
    noised = denoising(Objects.from_targets(TARGETS, SIZES))
    assert noised.groups == 2  # 5 // 2
    labels, weight = [[2, None], [None, None], [0, 1]], denoising.label_embedding.weight
    for image, row in enumerate(labels):
        for place in range(8):
            label = row[place % 2]
            want = torch.zeros(8) if label is None else weight[label]
            assert torch.equal(noised.content[image, place], want)
            assert (noised.boxes[image, place].tolist() == [0.5] * 4) == (label is None)


@pytest.mark.parametrize(("most", "groups"), [(1, 100), (3, 33), (60, 1), (100, 1), (101, 1), (250, 1)])
def test_there_are_as_many_groups_as_queries_allow_and_at_least_one(most, groups):
    crowd = target(*[(0, 0, 0, 10, 10)] * most)
    noised = Denoising(num_classes=2, dim=4)(Objects.from_targets([crowd, target()], [(20, 20)] * 2))
    assert noised.groups == groups
    assert noised.content.shape == (2, 2 * most * groups, 4)


def test_without_objects_the_label_embedding_gets_a_zero_gradient():
    denoising = Denoising(num_classes=2, dim=4)
    noised = denoising(Objects.from_targets([target(), target()], [(20, 20)] * 2))
    assert noised.content.shape == (2, 0, 4)
    assert noised.boxes.shape == (2, 0, 4)
    torch.cat((noised.content, torch.ones(2, 3, 4)), 1).sum().backward()
    assert torch.equal(denoising.label_embedding.weight.grad, torch.zeros(2, 4))


def test_groups_attend_to_themselves_and_matched_queries_only_to_each_other():
    """Two groups of one object (a positive and a negative) and three matched queries."""
    want = [
        [1, 1, 0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
    ]
    assert attention_mask(objects=1, groups=2, queries=3, device=torch.device("cpu")).int().tolist() == want


def test_matched_queries_attend_to_each_other_without_denoising():
    assert attention_mask(objects=0, groups=1, queries=2, device=torch.device("cpu")).all()


def test_positives_of_each_group_are_paired_with_their_objects():
    """M = 2, so groups are P P N N; the second place of the first image is padding."""
    pairs = denoising_pairs(Objects.from_targets(TARGETS, SIZES), groups=2, layers=2)
    found = set(zip(*(column.tolist() for column in pairs), strict=True))
    of_layer = {(0, 0, 0), (2, 0, 0), (2, 1, 1), (0, 4, 0), (2, 4, 0), (2, 5, 1)}
    assert found == {(layer, *pair) for layer in range(2) for pair in of_layer}
    assert len(pairs.set) == len(found)
