"""Inputs of detectors are validated; violations of the convention raise a descriptive error."""

import pytest
import torch

from foveal.tasks.detection.detector import check_targets
from support.detectors import noise, small_detector, target

SIZE = (64, 96)


@pytest.fixture(scope="module")
def detector():
    return small_detector("retinanet")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "at least one"),
        (torch.rand(1, 3, 64, 96), "takes a list of images"),
        ([noise(*SIZE), torch.zeros(3, 64, 96, dtype=torch.uint8)], r"^image 1 must be a float .* not torch.uint8"),
        ([torch.rand(1, 64, 96)], r"^image 0 must be .*\(1, 64, 96\)"),
        ([torch.rand(64, 96)], r"^image 0 must be .*\(64, 96\)"),
        ([torch.rand(3, 0, 96)], r"^image 0 must be .*\(3, 0, 96\)"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_invalid_images_are_rejected(detector, training, images, sentence):
    with pytest.raises(ValueError, match=sentence):
        detector.train(training)(images, [target([], [], SIZE)] * len(images))


BOX = [8.0, 8, 40, 40]
BROKEN = {
    "no labels": (dict(labels=None), "labels missing"),
    "no boxes, no masks": (dict(boxes=None, masks=None), "boxes and masks missing"),
    "three values": (dict(boxes=torch.zeros(1, 3)), r"boxes must be \(N, 4\) and labels \(N,\), not \(1, 3\)"),
    "extra label": (dict(labels=torch.tensor([0, 1])), r"not \(1, 4\) and \(2,\)"),
    "masks of another size": (dict(masks=torch.zeros(1, 64, 95)), r"masks must be \(1, 64, 96\), not \(1, 64, 95\)"),
    "uint8 labels": (dict(labels=torch.tensor([1], dtype=torch.uint8)), "must be int64, not torch.uint8"),
    "float labels": (dict(labels=torch.tensor([1.0])), "must be int64, not torch.float32"),
    "a background class": (dict(labels=torch.tensor([3])), "labels must be from 0 to 2, not 3 to 3"),
    "a negative label": (dict(labels=torch.tensor([-1])), "labels must be from 0 to 2, not -1 to -1"),
    "x, y, width and height": (dict(boxes=torch.tensor([[40.0, 8, 8, 8]])), "x2 above x1"),
    "no area": (dict(boxes=torch.tensor([[8.0, 8, 40, 8]])), "y2 above y1"),
    "NaN": (dict(boxes=torch.tensor([[8.0, 8, torch.nan, 8]])), "boxes must be"),
    "infinite": (dict(boxes=torch.tensor([[8.0, 8, torch.inf, 80]])), "boxes must be"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_invalid_target_is_named_in_the_error(kind):
    change, sentence = BROKEN[kind]
    sound = target([BOX], [2], SIZE)
    broken = {name: value for name, value in {**sound, **change}.items() if value is not None}
    check_targets([noise(*SIZE)] * 2, [sound, sound], 3, masks=True)
    with pytest.raises(ValueError, match=rf"^target 1: .*{sentence}"):
        check_targets([noise(*SIZE)] * 2, [sound, broken], 3, masks=True)


def test_training_needs_one_target_per_image(detector):
    detector.train()
    with pytest.raises(ValueError, match=r"needs targets; call eval\(\) to detect"):
        detector([noise(*SIZE)])
    with pytest.raises(ValueError, match="2 images need as many targets, not 1"):
        detector([noise(*SIZE)] * 2, [target([], [], SIZE)])
