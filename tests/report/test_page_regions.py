"""A segmenter's sections: IoU by class, the confusion in percent of the pixels, and label maps with a legend."""

import numpy as np
import torch

from foveal.report.draw_label_map import Example
from foveal.report.draw_legend import class_colours
from foveal.report.page import join
from foveal.report.page_regions import iou_by_class, region_examples
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.tasks.segmentation.metrics import ConfusionMatrix

CLASSES = ["sky", "wall", "sea"]


def test_the_iou_of_each_class_is_the_one_computed_by_hand(read_html):
    """Of four pixels of sky three are found; one is taken for a wall, of which two of two are found. No sea."""
    counted = ConfusionMatrix(3)
    counted.add(torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1]))
    found = SegmentationEvaluation(counted.scores(), CLASSES, 1, [], 1.0, counted.counts)
    page = read_html(join([iou_by_class(found)]))
    table = page.text.partition("IoU by class")[2]
    assert f"sky{100 * 4 / 6:.2f} %75.00 %{100 * 3 / 4:.2f} %" in table
    assert f"wall{100 * 2 / 6:.2f} %100.00 %{100 * 2 / 3:.2f} %" in table
    assert "sea0.00 %no pixel" in table
    assert "sky75.025.00" in page.text  # percent of the row


def test_a_legend_names_the_classes_that_are_shown_in_their_colours(read_html):
    image = np.full((40, 60, 3), 90, np.uint8)
    annotated, predicted = np.zeros((40, 60), int), np.zeros((40, 60), int)
    predicted[:, 30:], annotated[:5] = 2, IGNORED
    page = read_html(join([region_examples("Some", [Example("a.png", image, annotated, predicted)], CLASSES)]))
    assert len(page.all("img")) == 3
    assert "predicted, 50.00 % correct" in page.text
    swatches = [entry["style"] for entry in page.all("i")]
    assert swatches == ["--swatch: rgb({} {} {})".format(*class_colours(CLASSES)[at].tolist()) for at in (0, 2)]
    assert page.text.startswith("Someskysea")
