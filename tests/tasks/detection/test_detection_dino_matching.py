"""Bipartite matching of predictions and objects, and the losses of matched predictions."""

import itertools
import math

import pytest
import torch
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher

from foveal.tasks.detection.dino.matching import Objects, Pairs, match, matching_costs, set_losses


def objects_of(*images):
    """Objects from rows of (label, cx, cy, w, h), relative to the image, for each image."""
    most = max(len(image) for image in images)
    table = torch.zeros(len(images), most, 5, dtype=torch.float64)
    for number, image in enumerate(images):
        if image:
            table[number, : len(image)] = torch.tensor(image, dtype=torch.float64)
    return Objects(table[..., 0].long(), table[..., 1:], tuple(len(image) for image in images))


def random_objects(counts, num_classes=4):
    def one():
        return [torch.randint(num_classes, ()).item(), *(0.3 + 0.4 * torch.rand(2)), *(0.1 + 0.3 * torch.rand(2))]

    return objects_of(*[[one() for _ in range(count)] for count in counts])


def predictions(sets, images, queries, num_classes=4):
    logits = torch.randn(sets, images, queries, num_classes, dtype=torch.float64)
    centres, sizes = torch.rand(2, sets, images, queries, 2, dtype=torch.float64).unbind(0)
    return logits.requires_grad_(), torch.cat((centres, 0.1 + sizes), -1).requires_grad_()


def test_costs_weigh_class_l1_and_giou_with_2_5_and_2():
    """A probability of 1/2 for the class, and a box of the same size moved by half its width."""
    logits = torch.tensor([[0.0, 5.0]], dtype=torch.float64)
    boxes, target = torch.tensor([[[0.5, 0.5, 0.2, 0.2]], [[0.6, 0.5, 0.2, 0.2]]], dtype=torch.float64)
    positive, negative = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
    iou = 0.5 / 1.5  # they overlap by half; their hull contains nothing else
    want = 2 * (positive - negative) + 5 * 0.1 - 2 * iou
    assert matching_costs(logits, boxes, torch.tensor([0]), target).item() == pytest.approx(want, abs=1e-6)


def test_the_cost_of_disjoint_boxes_includes_the_empty_part_of_their_hull():
    logits = torch.zeros(1, 1, dtype=torch.float64)
    boxes, target = torch.tensor([[[0.1, 0.5, 0.2, 0.2]], [[0.7, 0.5, 0.2, 0.2]]], dtype=torch.float64)
    giou = -(0.8 - 0.4) / 0.8  # the boxes fill 0.4 x 0.2 of a hull of 0.8 x 0.2
    same = matching_costs(logits, boxes, torch.tensor([0]), boxes).item()
    apart = matching_costs(logits, boxes, torch.tensor([0]), target).item()
    assert apart - same == pytest.approx(5 * 0.6 + 2 * (1 - giou), abs=1e-9)


def test_assignments_match_transformers():
    objects = random_objects([3, 0, 5])
    logits, boxes = (t.detach() for t in predictions(4, 3, 9))
    pairs = set(zip(*(column.tolist() for column in match(logits, boxes, objects)), strict=True))
    matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    targets = [
        {"class_labels": objects.labels[image, :count], "boxes": objects.boxes[image, :count]}
        for image, count in enumerate(objects.counts)
    ]
    want = set()
    for number in range(4):
        found = matcher({"logits": logits[number], "pred_boxes": boxes[number]}, targets)
        for image, (queries, chosen) in enumerate(found):
            want |= {(number, image, q, m) for q, m in zip(queries.tolist(), chosen.tolist(), strict=True)}
    assert pairs == want


def test_assignments_have_minimum_cost():
    objects = random_objects([3])
    logits, boxes = (t.detach() for t in predictions(1, 1, 4))
    table = matching_costs(logits[0, 0], boxes[0, 0], objects.labels[0], objects.boxes[0])
    cheapest = min(itertools.permutations(range(4), 3), key=lambda rows: sum(table[q, m] for m, q in enumerate(rows)))
    pairs = match(logits, boxes, objects)
    assert dict(zip(pairs.object.tolist(), pairs.query.tolist(), strict=True)) == dict(enumerate(cheapest))


def test_more_objects_than_queries_use_every_query():
    objects = random_objects([5])
    pairs = match(*(t.detach() for t in predictions(2, 1, 3)), objects)
    assert sorted(zip(pairs.set.tolist(), pairs.query.tolist(), strict=True)) == [
        (s, q) for s in (0, 1) for q in range(3)
    ]


def test_nan_predictions_are_matched_and_give_a_nan_loss():
    objects, (logits, boxes) = random_objects([2]), predictions(1, 1, 3)
    broken = logits.detach() * math.nan
    pairs = match(broken, boxes.detach(), objects)
    assert len(pairs.query) == 2
    assert set_losses(broken, boxes, pairs, objects, 2.0)["class"].isnan().all()


def test_without_objects_there_are_no_pairs():
    assert [len(column) for column in match(*predictions(2, 2, 3), objects_of([], []))] == [0] * 4


def plain_focal(logit: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def plain_giou(a, b) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    wide = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    high = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    both = max(wide, 0) * max(high, 0)
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    union = aw * ah + bw * bh - both
    return both / union - (hull - union) / hull


def test_losses_equal_the_plain_formulas():
    objects = random_objects([2, 1])
    logits, boxes = predictions(2, 2, 3)
    rows = [(0, 0, 2, 0), (0, 0, 1, 1), (0, 1, 0, 0), (1, 0, 0, 0)]
    found = set_losses(logits, boxes, Pairs(*torch.tensor(rows).T), objects, 3.0)
    classes = {(s, i, q): int(objects.labels[i, m]) for s, i, q, m in rows}
    focal, l1, giou = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for s, i, q, c in itertools.product(range(2), range(2), range(3), range(4)):
        focal[s] += plain_focal(logits[s, i, q, c].item(), classes.get((s, i, q)) == c) / 3
    for s, i, q, m in rows:
        box, target = boxes[s, i, q].tolist(), objects.boxes[i, m].tolist()
        l1[s] += 5 * sum(abs(a - b) for a, b in zip(box, target, strict=True)) / 3
        giou[s] += 2 * (1 - plain_giou(box, target)) / 3
    assert found["class"].tolist() == pytest.approx(focal, rel=1e-12)
    assert found["l1"].tolist() == pytest.approx(l1, rel=1e-12)
    # torchvision adds 1e-7 to each denominator.
    assert found["giou"].tolist() == pytest.approx(giou, rel=1e-5)


def test_losses_without_pairs_keep_boxes_in_the_graph():
    logits, boxes = predictions(1, 1, 3)
    found = set_losses(logits, boxes, match(logits, boxes, objects_of([])), objects_of([]), 1.0)
    (found["class"] + found["l1"] + found["giou"]).sum().backward()
    assert torch.equal(boxes.grad, torch.zeros_like(boxes))
    assert (logits.grad > 0).all()
