"""Accuracy by class, confusion, mistakes and calibration of answers, against figures worked out by hand."""

import pytest
import torch

from foveal.tasks.classification.answers import BINS, Calibration, TopAnswers, class_accuracies


def answers(targets, predictions, confidences):
    count = len(targets)
    return TopAnswers(torch.arange(count), torch.tensor(targets), torch.tensor(predictions), torch.tensor(confidences))


def test_the_calibration_error_is_that_of_a_case_by_hand():
    """Four bins. (0.25, 0.5]: confidences 0.4 and 0.5, one right: mean 0.45, accuracy 0.5, gap 0.05 of 2 images.
    (0.5, 0.75]: 0.6, wrong: gap 0.6 of 1 image. (0.75, 1]: 0.8, 0.9, 1.0, two right: mean 0.9, gap 0.9 - 2/3 of 3."""
    confidences = torch.tensor([0.4, 0.5, 0.6, 0.8, 0.9, 1.0])
    right = torch.tensor([True, False, False, True, False, True])
    found = Calibration.of(confidences, right, bins=4)
    assert found.counts == (0, 2, 1, 3)
    assert found.confidences == (None, pytest.approx(45), pytest.approx(60), pytest.approx(90))
    assert found.accuracies == (None, pytest.approx(50), 0, pytest.approx(200 / 3))
    assert found.error == pytest.approx((2 * 5 + 1 * 60 + 3 * (90 - 200 / 3)) / 6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    found = Calibration.of(torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]), torch.ones(5, dtype=torch.bool), bins=5)
    assert found.counts == (1, 1, 1, 1, 1)


def test_confidence_that_equals_accuracy_has_no_error():
    right = torch.tensor([True] * 3 + [False])
    assert Calibration.of(torch.full((4,), 0.75), right).error == pytest.approx(0, abs=1e-6)


def test_the_number_of_bins_is_stated():
    document = answers([0, 1], [0, 0], [0.9, 0.6]).calibration().document()
    assert (document["bins"], len(document["images"]), sum(document["images"])) == (BINS, BINS, 2)


def test_accuracy_of_a_class_is_its_right_answers_by_its_images():
    confusion = answers([0, 0, 0, 1, 1, 3], [0, 0, 1, 1, 0, 3], [0.5] * 6).confusion(4)
    assert confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert class_accuracies(confusion) == [pytest.approx(200 / 3), 50, None, 100]


def test_the_worst_mistake_is_the_most_confident_one():
    found = answers([0, 1, 1, 0], [1, 1, 0, 1], [0.6, 0.99, 0.9, 0.6])
    assert found.mistakes().tolist() == [2, 0, 3]
