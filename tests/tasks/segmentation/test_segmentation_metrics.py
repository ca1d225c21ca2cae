"""Metrics with MMSegmentation's rules: ignored pixels do not count, and absent classes are excluded from means."""

import numpy as np
import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.segmentation.metrics import ConfusionMatrix
from foveal.tasks.segmentation.segmenter import IGNORED

X = IGNORED


def counted(predicted, labels, num_classes):
    confusion = ConfusionMatrix(num_classes)
    confusion.add(torch.tensor(predicted), torch.tensor(labels))
    return confusion


def test_counts_of_a_small_image_match_those_by_hand():
    confusion = counted([[0, 0, 1], [1, 2, 2]], [[0, 1, 1], [1, 2, 0]], 3)
    assert confusion.counts.tolist() == [[1, 0, 1], [1, 2, 0], [0, 0, 1]]
    scores = confusion.scores()
    # correct, labelled and predicted pixels: 1, 2, 2 for class 0; 2, 3, 2 for class 1; 1, 1, 2 for class 2
    assert scores.iou == pytest.approx([100 / 3, 200 / 3, 50])
    assert scores.accuracy == pytest.approx([50, 200 / 3, 100])
    assert scores.pixels == [2, 3, 1]
    assert scores.metrics == pytest.approx({"miou": 50, "macc": 650 / 9, "aacc": 400 / 6})


def test_ignored_pixels_do_not_count_whatever_is_predicted():
    """Predictions on them do not count either: class 1 is only predicted on ignored pixels."""
    scores = counted([[0, 1, 1, 0]], [[0, X, X, X]], 2).scores()
    assert (scores.iou, scores.accuracy, scores.pixels) == ([100, None], [100, None], [1, 0])
    assert scores.metrics == {"miou": 100, "macc": 100, "aacc": 100}


def test_a_class_that_is_neither_labelled_nor_predicted_is_excluded_from_means():
    scores = counted([[0, 0, 2, 2]], [[0, 0, 2, 0]], 4).scores()
    assert scores.iou == [pytest.approx(200 / 3), None, 50, None]
    assert scores.accuracy == [pytest.approx(200 / 3), None, 100, None]
    assert scores.miou == pytest.approx((200 / 3 + 50) / 2)
    assert scores.macc == pytest.approx((200 / 3 + 100) / 2)


def test_a_class_that_is_predicted_but_never_labelled_has_an_iou_of_0():
    """It lowers the mean IoU and has no accuracy."""
    scores = counted([[0, 1]], [[0, 0]], 2).scores()
    assert (scores.iou, scores.accuracy) == ([50, 0], [50, None])
    assert scores.metrics == {"miou": 25, "macc": 50, "aacc": 50}


def test_a_labelled_class_that_is_never_predicted_counts_as_0():
    scores = counted([[0, 0]], [[0, 1]], 2).scores()
    assert (scores.iou, scores.accuracy) == ([50, 0], [100, 0])


def test_pixels_are_pooled_over_images():
    """For an image of one pixel and one of three, all pixels have equal weight."""
    one, two = counted([[0]], [[1]], 2), counted([[1, 1, 0]], [[1, 1, 0]], 2)
    together = counted([[0, 1, 1, 0]], [[1, 1, 1, 0]], 2)
    assert (one + two).counts.tolist() == together.counts.tolist()
    assert one.counts.sum() == 1  # addition does not modify its operands
    two.add(torch.tensor([[0]]), torch.tensor([[1]]))
    assert two.scores() == together.scores()
    assert two.scores().aacc == 75


def test_counts_match_a_loop_over_pixels():
    draw = np.random.default_rng(0)
    given, labels = draw.integers(0, 7, (2, 33, 19))
    labels[draw.random(labels.shape) < 0.2] = IGNORED
    wanted = np.zeros((7, 7), int)
    for label, one in zip(labels.ravel(), given.ravel(), strict=True):
        if label != IGNORED:
            wanted[label, one] += 1
    assert counted(given, labels, 7).counts.tolist() == wanted.tolist()


def test_counts_stay_exact_beyond_what_float32_can_hold():
    confusion = counted([[0, 0, 0]], [[0, 0, 1]], 2)
    confusion.counts *= 2**40
    assert (confusion + counted([[0]], [[0]], 2)).counts[0, 0].item() == 2**41 + 1


@pytest.mark.parametrize("labels", [[[X, X]], [[]]])
def test_images_without_labelled_pixels_are_rejected(labels):
    confusion = ConfusionMatrix(2)
    confusion.add(torch.zeros(1, len(labels[0]), dtype=torch.int64), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises(FovealError, match="All pixels of the images are ignored"):
        confusion.scores()


@pytest.mark.parametrize(
    ("predicted", "labels", "sentence"),
    [
        ([[0, 2]], [[0, 1]], "predicted classes must be from 0 to 1, not 2"),
        ([[0, 0]], [[0, 2]], "labels must be from 0 to 1, not 2"),
        ([[0, 0]], [[-1, 0]], "labels must be from 0 to 1, not -1"),
        ([[0]], [[0, 1]], r"predicted classes \(1, 1\) for labels \(1, 2\)"),
    ],
)
def test_values_that_are_not_classes_are_rejected(predicted, labels, sentence):
    """They would otherwise be counted as other classes."""
    with pytest.raises(ValueError, match=sentence):
        counted(predicted, labels, 2)


def test_too_many_classes_are_rejected():
    ConfusionMatrix(255)
    with pytest.raises(ValueError, match="num_classes must be from 1 to 255, not 256"):
        ConfusionMatrix(256)
