"""Losses with balanced classes, label smoothing and mixed targets, against hand-computed and scikit-learn's numbers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from foveal.tasks.classification.losses import ClassLoss, LabelLoss, balanced_class_weights, balanced_label_weights

TARGETS = [0] * 6 + [1] * 3 + [2]  # weights by hand: 10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)


def test_balanced_weights_by_hand():
    assert balanced_class_weights(TARGETS, 3).tolist() == pytest.approx([5 / 9, 10 / 9, 10 / 3])


def test_balanced_weights_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    targets = draw.choice(5, 200, p=[0.5, 0.3, 0.1, 0.07, 0.03])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=targets)
    assert balanced_class_weights(targets.tolist(), 5).tolist() == pytest.approx(expected.tolist())


def test_a_class_without_an_image_weighs_nothing_and_does_not_count():
    assert balanced_class_weights([0, 0, 0, 2], 3).tolist() == pytest.approx([4 / 6, 0, 4 / 2])


def test_weights_are_one_on_average_over_the_images():
    weights = balanced_class_weights(TARGETS, 3)
    assert weights[torch.tensor(TARGETS)].mean().item() == pytest.approx(1)


def test_the_weighted_loss_by_hand():
    """Equal logits: each image loses ln 3 times its weight, and the sum is divided by the number of images."""
    loss = ClassLoss(weights=balanced_class_weights(TARGETS, 3))
    found = loss(torch.zeros(2, 3), torch.tensor([0, 2]))
    assert found.item() == pytest.approx(math.log(3) * (5 / 9 + 10 / 3) / 2)


def test_a_mixed_target_weighs_as_the_mixture_of_its_classes():
    loss, logits = ClassLoss(weights=torch.tensor([1.0, 3.0])), torch.tensor([[0.0, 1.0]])
    log_p = logits.log_softmax(1)[0].tolist()
    found = loss(logits, torch.tensor([[0.25, 0.75]]))
    assert found.item() == pytest.approx(-(1 * 0.25 * log_p[0] + 3 * 0.75 * log_p[1]))


def test_smoothed_targets_are_weighted_by_class():
    loss, logits = ClassLoss(smoothing=0.2, weights=torch.tensor([1.0, 3.0])), torch.tensor([[0.0, 1.0]])
    log_p = logits.log_softmax(1)[0].tolist()
    found = loss(logits, torch.tensor([0]))
    assert found.item() == pytest.approx(-(1 * 0.9 * log_p[0] + 3 * 0.1 * log_p[1]))


def test_the_loss_of_an_image_does_not_depend_on_the_others():
    loss, logits = ClassLoss(0.1, torch.tensor([1.0, 2.0, 4.0])), torch.randn(4, 3)
    targets = torch.tensor([0, 1, 2, 2])
    parts = [loss(logits[i : i + 1], targets[i : i + 1]).item() for i in range(4)]
    assert loss(logits, targets).item() == pytest.approx(sum(parts) / 4)


def test_without_weights_it_is_cross_entropy():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    assert ClassLoss(0.1)(logits, targets).equal(F.cross_entropy(logits, targets, label_smoothing=0.1))
    mixed = torch.rand(5, 3)
    assert ClassLoss(0.1)(logits, mixed).equal(F.cross_entropy(logits, mixed))


def test_label_weights_by_hand():
    """Of four images three have label 0, one has label 1, none label 2, and all label 3."""
    labels = [(0, 3), (0, 1, 3), (0, 3), (3,)]
    assert balanced_label_weights(labels, 4).tolist() == pytest.approx([1 / 3, 3, 1, 1])


def test_label_weights_are_those_of_scikit_learn_for_two_classes():
    y = np.array([1] * 3 + [0] * 17)
    absent, present = compute_class_weight("balanced", classes=np.array([0, 1]), y=y)
    weights = balanced_label_weights([(0,) if one else () for one in y], 1)
    assert weights.item() == pytest.approx(present / absent)


def test_the_loss_of_labels_by_hand():
    """Sigmoid of 0 is a half: every cell loses ln 2, those of right labels times their weight."""
    loss = LabelLoss(weights=torch.tensor([3.0, 1.0]))
    found = loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(math.log(2) * (3 + 1) / 2)


def test_smoothing_moves_labels_towards_a_half():
    loss, logits = LabelLoss(smoothing=0.2), torch.tensor([[1.0, -2.0]])
    expected = F.binary_cross_entropy(logits.sigmoid(), torch.tensor([[0.9, 0.1]]))
    assert loss(logits, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(expected.item())
