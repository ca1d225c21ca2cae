"""A detector's sections: AP by class, precision against recall, the confusion with the background, and pictures."""

import re

import numpy as np
import pytest

from foveal.report.findings_detection import findings
from foveal.report.page import join
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.data import open_split
from foveal.tasks.detection.evaluate import DetectionEvaluation
from foveal.tasks.detection.results import ImageResult, box_records
from support.coco_folders import annotation, write_split

CAT, DOG = 3, 7


@pytest.fixture
def found(tmp_path):
    """Image 1: a cat that is found exactly, and one that is missed. Image 2: a dog taken for a cat."""
    marked = [
        annotation(1, 1, (0, 0, 20, 20), CAT),
        annotation(2, 1, (40, 40, 40, 40), CAT),
        annotation(3, 2, (0, 0, 40, 40), DOG),
    ]
    images = open_split(write_split(tmp_path / "coco", "val", marked, [(96, 96)] * 2), "val", masks=False)
    cat = images.classes.index("cat")
    said = {1: ([(0, 0, 20, 20)], [0.9]), 2: ([(0, 0, 40, 40)], [0.7])}
    results = [
        ImageResult(number, np.array(boxes, np.float32), np.array([cat]), np.array(scores, np.float32))
        for number, (boxes, scores) in said.items()
    ]
    scores = average_precision(images.ground_truth(), box_records(results, images.category_ids), "box")
    return findings(DetectionEvaluation(scores, None, 2, [], 1.0, results), images, "net")


@pytest.fixture
def page(found, read_html):
    return read_html(join([part for _, part in found.sections]))


def test_the_ap_of_each_class_is_the_one_computed_by_hand(page, found):
    """One of two cats is found with the highest score: precision 1 up to recall 0.5, 51 of COCO's 101 recalls. No dog
    is found."""
    table = page.text.partition("Average precision of boxes by class")[2]
    ap = f"{100 * 51 / 101:.2f} %"
    assert f"cat2{ap}{ap}dog10.00 %0.00 %" in table
    assert f"the average precision of its boxes is {100 * 51 / 202:.2f} %" in found.lead


def test_precision_is_drawn_over_all_recalls_from_0(page):
    drawing = page.source.partition("Precision of boxes at an IoU of 0.5")[2].partition("</figure>")[0]
    assert re.findall(r'text-anchor="end">([^<]*)<', drawing) == ["0", "25", "50", "75", "100"]
    assert len(re.findall("<polyline", drawing)) == 3  # two classes and their mean
    assert ">recall, %<" in drawing
    assert ">precision, %<" in drawing


def test_the_confusion_has_the_background(page):
    table = page.text.partition("score from 0.5")[2]
    assert "cat101" in table  # found, taken for a dog, missed
    assert "dog100" in table  # taken for a cat


def test_pictures_show_what_is_annotated_and_what_is_detected(page):
    assert "Invented or of a wrong class" in page.text
    assert "cat 0.70 where a dog is annotated" in page.text
    assert "missed: cat" in page.text
    assert len(page.all("img")) == 2 * (1 + 1 + 2)
    assert all(image["alt"] for image in page.all("img"))
