"""Average precision and F1 of labels, against numbers computed by hand and scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from foveal.tasks.classification.label_scores import LabelScore, average_precision, micro_f1


def ap(scores, targets):
    return average_precision(torch.tensor(scores), torch.tensor(targets, dtype=torch.bool))


def test_average_precision_by_hand():
    """Recall rises to 1/2 at rank 1 with precision 1, and to 1 at rank 3 with precision 2/3."""
    assert ap([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_order_of_images_does_not_matter():
    assert ap([0.7, 0.6, 0.9, 0.8], [1, 0, 1, 0]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_equal_scores_share_a_threshold():
    """One of two equal ones is right: precision 1/2 where recall rises from 0 to 1."""
    assert ap([0.5, 0.5], [1, 0]) == ap([0.5, 0.5], [0, 1]) == pytest.approx(0.5)


def test_a_perfect_and_the_worst_ranking():
    assert ap([3.0, 2.0, 1.0], [1, 1, 0]) == 1
    assert ap([3.0, 2.0, 1.0], [0, 0, 1]) == pytest.approx(1 / 3)


def test_a_class_that_no_image_has_has_no_average_precision():
    assert ap([0.5, 0.1], [0, 0]) is None


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed):
    draw = np.random.default_rng(seed)
    scores, targets = draw.random(200).round(1 + seed % 2), draw.random(200) < 0.2
    assert ap(scores.tolist(), targets.tolist()) == pytest.approx(average_precision_score(targets, scores))


def test_f1_by_hand():
    """Two labels are found and right, one is found and wrong, one is missed: 2 * 2 / (3 + 3)."""
    found = torch.tensor([[True, True, False], [True, False, False]])
    right = torch.tensor([[True, False, False], [True, False, True]])
    assert micro_f1(found, right).item() == pytest.approx(2 / 3)


def test_f1_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    found, right = draw.random((50, 4)) < 0.4, draw.random((50, 4)) < 0.3
    expected = f1_score(right, found, average="micro")
    assert micro_f1(torch.tensor(found), torch.tensor(right)).item() == pytest.approx(expected)


def test_f1_without_any_label_is_one():
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    assert micro_f1(nothing, nothing).item() == 1


def test_the_mean_leaves_out_classes_without_an_image():
    score = LabelScore(4, (100.0, None, 50.0), (2, 0, 1), f1=0, loss=0, images_per_second=1)
    assert (score.mean, score.scored_classes) == (75.0, 2)
