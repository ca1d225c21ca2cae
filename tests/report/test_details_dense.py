"""The details of a detector's and a segmenter's evaluation as files."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.report.details_detection import draw_curves, worst_missed, worst_spurious, write_details
from foveal.report.evaluation_segmentation import worst_examples
from foveal.report.evaluation_segmentation import write_details as write_segmentation_details
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.confusion import confusion
from foveal.tasks.detection.data import open_split
from foveal.tasks.detection.evaluate import DetectionEvaluation
from foveal.tasks.detection.results import ImageResult, box_records
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation, _Share
from foveal.tasks.segmentation.metrics import ConfusionMatrix
from support.coco_folders import annotation, write_split


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def evaluated(tmp_path):
    """Image 1: a cat of 20 x 20 that is found exactly, and one of 40 x 40 that is missed. Image 2: a dog of 40 x 40
    that is taken for a cat. Both have a detection of nothing, that of image 1 with a higher score."""
    cat, dog = 3, 7
    marked = [
        annotation(1, 1, (0, 0, 20, 20), cat),
        annotation(2, 1, (40, 40, 40, 40), cat),
        annotation(3, 2, (0, 0, 40, 40), dog),
    ]
    images = open_split(write_split(tmp_path / "coco", "val", marked, [(96, 96)] * 2), "val", masks=False)
    labels = {name: label for label, name in enumerate(images.classes)}
    cats, dogs = labels["cat"], labels["dog"]
    found = {
        1: ([(0, 0, 20, 20), (0, 60, 20, 80)], [cats, dogs], [0.9, 0.8]),
        2: ([(0, 0, 40, 40), (60, 60, 80, 80)], [cats, dogs], [0.7, 0.6]),
    }
    results = [
        ImageResult(number, np.array(boxes, np.float32), np.array(labels), np.array(scores, np.float32))
        for number, (boxes, labels, scores) in found.items()
    ]
    truth = images.ground_truth()
    scores = average_precision(truth, box_records(results, images.category_ids), "box")
    return (
        DetectionEvaluation(scores, None, 2, [], 1.0, results),
        confusion(results, truth, images.category_ids),
        images,
    )


def test_average_precision_is_by_class_and_size(evaluated):
    """Half of the cats are found: the small one with certainty, the medium one never."""
    evaluation, _, _ = evaluated
    cat = evaluation.box.by_class["cat"]
    assert cat["ap_small"] == pytest.approx(100)
    assert cat["ap_medium"] == pytest.approx(0)
    assert cat["ap"] == evaluation.box.classes["cat"] == pytest.approx(100 * 51 / 101)
    assert "ap_large" not in cat
    assert evaluation.document["by_class"]["box"]["dog"]["ap_medium"] == 0


def test_all_tables_and_pictures_are_written(evaluated, tmp_path):
    write_details(tmp_path, *evaluated, "net")
    table = rows(tmp_path / "classes.csv")
    assert table[0][:6] == [
        "class",
        "objects",
        "box_ap_percent",
        "box_ap50_percent",
        "box_ap75_percent",
        "box_ap_small_percent",
    ]
    assert table[1] == ["cat", "2", "50.5", "50.5", "50.5", "100.0", "0.0", ""]
    matrix = rows(tmp_path / "confusion.csv")
    assert matrix[0] == ["true class", "cat", "dog", "background"]
    assert matrix[1:] == [["cat", "1", "0", "1"], ["dog", "1", "0", "0"], ["background", "0", "2", "0"]]
    curves = rows(tmp_path / "precision_recall.csv")
    assert curves[0] == ["kind", "class", "recall", "precision"]
    assert len(curves) == 1 + 2 * 101
    assert curves[1] == ["box", "cat", "0.0", "1.0"]
    for name in ("confusion", "precision_recall_classes", "false_positives", "misses"):
        Image.open(tmp_path / f"{name}.png").verify()


def test_the_worst_of_each_image_is_shown_the_worst_image_first(evaluated):
    evaluation, found, images = evaluated
    spurious = worst_spurious(found, images)
    assert [one.captions[1] for one in spurious] == [
        "dog 0.80 where nothing is annotated",
        "cat 0.70 where a dog is annotated",
    ]
    (missed,) = worst_missed(found, images, {result.image_id: result for result in evaluation.results})
    assert missed.captions == ("missed: cat", "detected")
    assert [thing.box for thing in missed.annotated] == [(40, 40, 80, 80)]
    assert len(missed.detected) == 2


def test_curves_are_drawn_by_class_with_their_mean(evaluated):
    (axes,) = draw_curves([evaluated[0].box], "net").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["cat: AP 50.5", "dog: AP 0.0", "mean of 2 classes: AP 25.2"]


class Pictures:
    """Three grey images of 2 x 4 pixels, all of class 0."""

    paths = [Path(f"{number}.png") for number in range(3)]
    label_paths = paths

    def name(self, index):
        return self.paths[index].stem

    def image(self, index):
        return torch.full((3, 2, 4), 80 * index, dtype=torch.uint8)

    def labels(self, index):
        return torch.zeros(2, 4, dtype=torch.int64)


def test_the_worst_images_of_a_segmenter_are_those_of_the_lowest_mean_iou(tmp_path):
    """Image 1 has 2 of 8 pixels wrong: IoU 6/8 and 0/2, mean 37.5; image 2 half of them: 4/8 and 0/4, mean 25."""
    share = _Share(ConfusionMatrix(2))
    images, wrong = Pictures(), {0: 0, 1: 2, 2: 4}
    maps = {place: (torch.arange(8) < count).long().view(2, 4) for place, count in wrong.items()}
    for place, predicted in maps.items():
        share.add(place, predicted, images.labels(place))
    found = SegmentationEvaluation(
        share.confusion.scores(), ["wall", "sky"], 3, [], 1.0, share.confusion.counts, share.each
    )
    assert [(one.place, one.accuracy, one.miou) for one in found.worst] == [(2, 50, 25), (1, 75, 37.5), (0, 100, 100)]
    examples = worst_examples(images, found, lambda image: maps[round(image.max().item() * 255 / 80)])
    assert [(one.name, one.said) for one in examples][:2] == [
        ("2", "predicted, mIoU 25.00 %"),
        ("1", "predicted, mIoU 37.50 %"),
    ]
    write_segmentation_details(tmp_path, found, images, examples)
    assert rows(tmp_path / "classes.csv")[1:] == [["wall", "24", "75.0", "75.0"], ["sky", "0", "0.0", ""]]
    assert rows(tmp_path / "confusion.csv")[1:] == [["wall", "18", "6"], ["sky", "0", "0"]]
    assert rows(tmp_path / "images.csv")[2] == ["1", "75.0", "37.5"]
    Image.open(tmp_path / "worst.png").verify()
