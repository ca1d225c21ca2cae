"""Segmentation metrics as text: every class is listed, within 80 columns."""

import re

import pytest
import torch

from foveal.cli.segmentation import describe, print_evaluation
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.tasks.segmentation.inference import MULTI_SCALE, SLIDING, WHOLE, Inference
from foveal.tasks.segmentation.metrics import SegmentationScores


def evaluation(iou, names):
    accuracy = [None if value is None else min(100.0, value + 1) for value in iou]
    scores = SegmentationScores(48.127, 60.5, 83.333, iou, accuracy, [1] * len(iou))
    return SegmentationEvaluation(scores, names, 2000, [], 3.25, torch.eye(len(iou), dtype=torch.int64))


@pytest.fixture
def lines(capsys, monkeypatch):
    def run(found, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_evaluation(found, "upernet transnext_tiny", SLIDING)
        return capsys.readouterr().out.splitlines()

    return run


def test_overall_metrics_come_first(lines):
    title, how, heading, figures, *_ = lines(evaluation([50.0], ["wall"]))
    assert title == "upernet transnext_tiny, 2,000 images, 3.2 images/s; figures in percent"
    assert how == describe(SLIDING)
    assert (re.split(" {2,}", heading.strip()), figures.split()) == (
        ["mIoU", "mean accuracy", "pixel accuracy"],
        ["48.13", "60.50", "83.33"],
    )


@pytest.mark.parametrize(("columns", "across"), [(80, 3), (135, 5), (30, 1)])
def test_classes_are_listed_in_columns_from_best_to_worst_then_unscored(lines, columns, across):
    names = [f"class{number:03}" for number in range(150)]
    iou = [None if number == 7 else 100 - number / 2 for number in range(150)]
    said = lines(evaluation(iou, names), columns)
    table = said[next(number for number, line in enumerate(said) if line.startswith("class ")) :]
    assert max(map(len, said)) <= columns
    assert table[0].split() == across * ["class", "IoU", "accuracy"]
    rows = [line.split() for line in table[1:]]
    assert len(rows) == 150 // across
    in_order = [row[3 * column : 3 * column + 3] for column in range(across) for row in rows]
    assert [name for name, _, _ in in_order] == [*names[:7], *names[8:], "class007"]
    assert (in_order[0], in_order[1], in_order[-1]) == (
        ["class000", "100.00", "100.00"], ["class001", "99.50", "100.00"], ["class007", "-", "-"],
    )  # fmt: skip


def test_long_names_are_truncated(lines):
    table = lines(evaluation([90.0, 80.0, 70.0], ["a name that no column of a table would hold", "cat", "dog"]))[4:]
    assert max(map(len, table)) <= 80
    assert table[1].split("...")[0] == "a name that no colu"


@pytest.mark.parametrize(
    ("inference", "sentence"),
    [
        (WHOLE, "Images with short side 512, long side at most 2,048."),
        (SLIDING, "Images with short side 512, long side at most 2,048; windows of 512 every 341."),
        (Inference(short=None, scales=(0.5,)), "Images in their own size, long side at most 2,048; times 0.5."),
        (
            MULTI_SCALE,
            "Images with short side 512, long side at most 2,048; 6 scales, 0.5 to 1.75; mirrored too.",
        ),
    ],
)
def test_inference_settings_are_described_in_a_sentence(inference, sentence):
    assert describe(inference) == sentence


def test_a_mean_over_classes_without_a_pixel_says_so(lines):
    """The second class is predicted and has no pixel: its IoU of 0 is in mIoU, and mAcc is over the other alone."""
    scores = SegmentationScores(45.0, 91.0, 83.0, [90.0, 0.0], [91.0, None], [5, 0])
    found = SegmentationEvaluation(scores, ["cat", "dog"], 3, [], 1.0, torch.tensor([[4, 1], [0, 0]]))
    _, _, heading, _, absent, *_ = lines(found)
    assert re.split(" {2,}", heading)[:2] == ["mIoU over 2 of 2 classes", "mean accuracy over 1 of 2 classes"]
    assert absent == "No pixel of 1 of 2 classes: dog."
