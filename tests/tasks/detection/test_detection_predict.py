"""Prediction for files of any size and mode, with objects in the pixels of the original image."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.detection.detector import Detector, Images
from foveal.tasks.detection.predict import detected_objects, predict, to_coco
from foveal.tasks.detection.rle import decode_mask

CPU, CLASSES = torch.device("cpu"), ["cat", "dog"]


class Bright(Detector):
    """Detects the bright pixels of an image as a dog, and the entire image as a cat with a lower score."""

    def __init__(self, short: int = 64) -> None:
        super().__init__(nn.Identity(), 2, Images(short, 2 * short))

    def detections(self, batch):
        found = []
        for image, (height, width) in zip(batch.tensors, batch.image_sizes, strict=True):
            rows, columns = torch.nonzero(image[0, :height, :width] > 1, as_tuple=True)
            bright = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            boxes = torch.stack([bright, torch.tensor([0.0, 0.0, width, height])])
            answer = {"boxes": boxes, "labels": torch.tensor([1, 0]), "scores": torch.tensor([0.9, 0.4])}
            found.append({**answer, "masks": torch.ones(2, 1, 28, 28)})
        return found


@pytest.fixture
def files(tmp_path):
    """Two images of different sizes, the second a palette image; rows 16 to 32 and columns 8 to 24 are bright."""
    paths = []
    for name, (height, width) in {"small.png": (64, 96), "large.gif": (128, 64)}.items():
        pixels = np.zeros((height, width), np.uint8)
        pixels[16:32, 8:24] = 255
        Image.fromarray(pixels).convert("P").save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


@pytest.mark.parametrize("batch_size", [1, 2])
def test_objects_are_in_the_pixels_of_each_image(files, batch_size):
    steps = []
    small, large = predict(
        Bright(), CLASSES, files, batch_size=batch_size, device=CPU, on_batch=lambda *at: steps.append(at)
    )
    assert (small.path, small.height, small.width) == (str(files[0]), 64, 96)
    assert (large.path, large.height, large.width) == (str(files[1]), 128, 64)
    for prediction in (small, large):
        (dog,) = prediction.objects  # the cat is below the threshold
        assert (dog.label, dog.name, dog.score, dog.box) == (1, "dog", pytest.approx(0.9), (8, 16, 24, 32))
        mask = decode_mask(dog.mask)
        assert mask.shape == (prediction.height, prediction.width)
        assert mask[17:31, 9:23].all()
        assert not mask[:14].any()
    assert len(steps) == 2 // batch_size


def test_boxes_of_a_resized_image_are_in_its_original_pixels(files):
    (prediction,) = predict(Bright(short=32), CLASSES, files[:1], device=CPU)
    assert prediction.objects[0].box == pytest.approx((8, 16, 24, 32), abs=2)


def test_objects_below_the_threshold_are_omitted(files):
    (one,) = predict(Bright(), CLASSES, files[:1], threshold=0.3, device=CPU)
    assert [thing.name for thing in one.objects] == ["dog", "cat"]
    (none,) = predict(Bright(), CLASSES, files[:1], threshold=0.95, device=CPU)
    assert none.objects == []


def test_a_wrong_number_of_class_names_is_rejected(files):
    with pytest.raises(FovealError, match="has 2 classes, but 3 names were given"):
        predict(Bright(), [*CLASSES, "eel"], files, device=CPU)


def test_a_file_that_is_not_an_image_is_named_in_the_error(tmp_path):
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(FovealError, match=r"no.jpg is not a readable image"):
        predict(Bright(), CLASSES, [tmp_path / "no.jpg"], device=CPU)


def test_annotations_are_converted_like_predictions_without_a_score():
    target = {
        "boxes": torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.eye(5, dtype=torch.uint8)[None],
        "image_id": torch.tensor(9),
    }
    (dog,) = detected_objects(target, CLASSES)
    assert (dog.name, dog.score, dog.box) == ("dog", None, (1, 2, 3, 4))
    assert (decode_mask(dog.mask) == np.eye(5, dtype=bool)).all()


def test_predictions_can_be_converted_to_json_and_coco(files, tmp_path, capsys):
    predictions = predict(Bright(), CLASSES, files, threshold=0.3, device=CPU)
    assert json.loads(json.dumps(asdict(predictions[0])))["objects"][0]["box"] == [8, 16, 24, 32]
    (tmp_path / "found.json").write_text(json.dumps(to_coco(predictions, CLASSES, [3, 8])))
    coco = COCO(str(tmp_path / "found.json"))
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == [str(path) for path in files]
    dogs = coco.loadAnns(coco.getAnnIds(catIds=[8]))
    assert [(dog["image_id"], dog["bbox"], dog["score"]) for dog in dogs] == [
        (1, [8, 16, 16, 16], pytest.approx(0.9)),
        (2, [8, 16, 16, 16], pytest.approx(0.9)),
    ]
    assert [int(coco.annToMask(dog).sum()) for dog in dogs] == [dog["area"] for dog in dogs]
