"""Detectors and segmenters in NumPy: the arithmetic of PyTorch and torchvision, from which their answers came."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from foveal.runtime.card import Input, Resizing
from foveal.runtime.detection import Evaluation, select
from foveal.runtime.padded import input_size, pad, resize, within
from foveal.runtime.segmentation import upsample
from foveal.tasks.detection.boxes import BoxSelection

EVALUATION = Evaluation(64, 96, 32, (8, 16), 2, score=0.05, overlap=0.5, candidates=1000, most=40)


@pytest.mark.parametrize("size", [(20, 33), (64, 96), (50, 21), (41, 60)])
def test_images_are_resized_as_in_evaluation(size):
    """Bilinear with antialiasing; both sum some ten products per pixel and axis in float32."""
    pixels = np.random.default_rng(0).integers(0, 256, (41, 60, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    expected = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    np.testing.assert_allclose(resize(pixels, size), expected.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(20, 33), (64, 96), (7, 90), (41, 60)])
def test_scores_are_resized_without_antialiasing(size):
    scores = torch.randn(4, 41, 60)
    expected = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(upsample(scores.numpy(), size), expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("most", [40, 1000])
def test_boxes_are_selected_as_by_torchvision(most):
    """A hundred overlapping boxes of three classes; some reach beyond the image, some have no area in it."""
    draw = np.random.default_rng(1)
    corners = draw.uniform(-20, 90, (100, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(1, 40, (100, 2))], 1).astype(np.float32)
    scores = draw.uniform(0, 1, (100, 3)).astype(np.float32)
    inside = [draw.uniform(size=count) > 0.2 for count in (60, 40)]
    anchors, labels = ((scores > 0.05) & np.concatenate(inside)[:, None]).nonzero()
    given = (torch.from_numpy(array) for array in (boxes[anchors], scores[anchors, labels], labels))
    expected = BoxSelection(0.05, 0.5, most)(*given, (64, 80))
    evaluation = Evaluation(64, 96, 32, (8, 16), 2, score=0.05, overlap=0.5, candidates=1000, most=most)
    found = select(boxes, scores, inside, (64, 80), evaluation)
    assert len(found.labels) == min(most, len(expected["labels"])) >= 40
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), expected[name].numpy())


def test_each_level_has_its_own_best_candidates():
    scores = np.linspace(0.9, 0.1, 8, dtype=np.float32)[:, None]
    boxes = np.arange(8, dtype=np.float32)[:, None] * 10 + np.array([0, 0, 5, 5], np.float32)
    evaluation = Evaluation(64, 96, 32, (8, 16), 2, score=0.05, overlap=0.5, candidates=2, most=10)
    found = select(boxes, scores, [np.ones(4, bool), np.ones(4, bool)], (100, 100), evaluation)
    np.testing.assert_array_equal(found.scores, scores[[0, 1, 4, 5], 0])


def test_no_box_above_the_score_is_no_detection():
    found = select(np.ones((4, 4), np.float32), np.zeros((4, 3), np.float32), [np.ones(4, bool)], (9, 9), EVALUATION)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


def test_the_rest_of_an_input_is_zero_after_the_normalisation():
    padded = pad(
        np.ones((3, 2, 3), np.float32), Resizing(1, True, "bilinear", (0.5,) * 3, (0.25,) * 3, padded=True), (4, 5)
    )
    expected = np.zeros((3, 4, 5))
    expected[:, :2, :3] = 2
    np.testing.assert_array_equal(padded, expected)


def test_images_fit_into_a_file_of_one_size_and_pad_others():
    fixed, free = Input("images", 1, (64, 96)), Input("images", 1, (64, 96), any_size=True, smallest=64)
    assert within(fixed, (96, 48)) == (64, 32)
    assert within(fixed, (30, 96)) == (30, 96)
    assert within(free, (500, 300)) == (500, 300)
    assert input_size(fixed, (30, 96), 32) == (64, 96)
    assert input_size(free, (30, 100), 32) == (64, 128)
