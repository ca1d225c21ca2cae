"""Training curves of a page, for the logs of every task."""

import re

import pytest

from foveal.report.history import differences
from foveal.report.page import join
from foveal.report.page_curves import training_curves

CLASSIFIER = [
    {"epoch": n, "step": 10 * n, "lr": rate, "train_loss": train, "train_top1": 40.0 + n, "val_top1": top1,
     "val_loss": val, "seconds": 2.0, "images_per_second": 90.0}
    for n, rate, train, val, top1 in [(1, 1e-3, 2.0, 1.5, 60.0), (2, 5e-4, 1.2, 1.0, 81.25), (3, 0.0, 0.9, 1.1, 77.0)]
]  # fmt: skip
DETECTOR = [
    {"epoch": n, "step": 10 * n, "lr": 1e-3, "train_loss": 3.0, "train_class": 2.0, "train_box_reg": 1.0,
     "val_box_ap": ap, "val_mask_ap": ap / 2, "val_box_ap50": 2 * ap, "seconds": 2.0, "images_per_second": 9.0}
    for n, ap in ((1, 10.0), (2, 21.0))
]  # fmt: skip
SEGMENTER = [
    {"epoch": 1, "step": 5, "lr": 1e-3, "train_loss": 0.7, "train_decode": 0.7, "val_miou": 33.0, "val_macc": 40.0,
     "val_classes": 3, "val_scored_classes": 2, "seconds": 2.0, "images_per_second": 9.0}
]  # fmt: skip


def titles(page) -> list[str]:
    return re.findall("<h3>(.*?)</h3>", page.source)


@pytest.mark.parametrize(
    ("history", "monitor", "best", "expected"),
    [
        (CLASSIFIER, "top1", 2, ["Loss", "Accuracy, %", "Learning rate"]),
        (DETECTOR, "box_ap", 2, ["Loss", "Parts of the training loss", "Average precision, %", "Learning rate"]),
        (SEGMENTER, "miou", 1, ["Loss", "Mean IoU, %", "Learning rate"]),
    ],
)
def test_every_task_has_titles_in_words_with_a_unit_and_no_figure_is_drawn_twice(
    history, monitor, best, expected, read_html
):
    """The only part of a loss is the loss itself, which is drawn once."""
    page = read_html(join([training_curves(history, [], monitor, best)]))
    assert titles(page) == expected
    assert page.text.count(f"best: epoch {best}") == len(expected) - 1  # the rate has no best epoch


def test_the_legend_has_the_figure_of_the_best_epoch(read_html):
    page = read_html(join([training_curves(CLASSIFIER, [], "top1", 2)]))
    assert "validation 81.25" in page.text
    assert "validation 77" not in page.text


def test_the_axis_of_mean_iou_begins_at_0(read_html):
    page = read_html(join([training_curves(SEGMENTER, [], "miou", 1)]))
    drawing = page.source.partition("Mean IoU, %")[2].partition("Learning rate")[0]
    assert re.findall(r'text-anchor="end">([^<]*)<', drawing)[0] == "0"


def test_the_axis_of_average_precision_begins_at_0(read_html):
    page = read_html(join([training_curves(DETECTOR, [], "box_ap", 2)]))
    chart = page.text.partition("Average precision, %")[2].partition("Learning rate")[0]
    assert "box AP 21.00" in chart
    assert "mask AP 10.50" in chart
    drawing = page.source.partition("Average precision, %")[2].partition("Learning rate")[0]
    assert re.findall(r'text-anchor="end">([^<]*)<', drawing)[0] == "0"


def test_the_learning_rate_has_readable_ticks_and_the_resolution_of_the_updates(read_html):
    steps = [{"update": n, "lr": 0.002 * n / 30} for n in range(1, 31)]
    page = read_html(join([training_curves(CLASSIFIER, steps, "top1", 2)]))
    drawing = page.source.partition("Learning rate")[2].partition("</figure>")[0]
    assert re.findall(r'text-anchor="end">([^<]*)<', drawing) == ["0", "0.0005", "0.0010", "0.0015", "0.0020"]
    assert len(re.search('points="(.*?)"', drawing)[1].split()) == 30


def test_a_long_run_is_drawn_with_few_points_and_listed_in_part(read_html):
    history = [{**CLASSIFIER[0], "epoch": n, "step": 1000 * n} for n in range(1, 1001)]
    steps = [{"update": n, "lr": 0.001} for n in range(1, 100_001)]
    page = read_html(join([training_curves(history, steps, "top1", 1)]))
    assert "One of 3 epochs of the run" in page.text
    assert len(page.source) < 400_000


CARD = {
    "augmentation": {"crop_scale": [0.35, 1.0], "flip": 0.5, "mixup": 0.0, "label_smoothing": 0.1},
    "drop_path": 0.2,
}


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (CARD, ["images are augmented", "labels are smoothed by 0.1", "blocks are left out at random (drop path 0.2)"]),
        ({"augmentation": {"crop_scale": (1.0, 1.0), "flip": 0.0}, "drop_path": 0.0}, []),
        ({"augmentation": {"crop_scale": (1.0, 1.0), "cutmix": 1.0}}, ["images are mixed with each other"]),
        ({}, []),
    ],
)
def test_what_makes_training_harder_is_read_from_the_run(card, expected):
    assert differences(card) == expected


@pytest.mark.parametrize(
    ("best", "why", "said"),
    [
        (2, ["images are augmented"], True),  # 1.2 in training, 1.0 in validation
        (3, ["images are augmented"], False),  # 0.9 and 1.1
        (2, [], False),
    ],
)
def test_a_note_says_why_the_training_loss_is_higher_only_where_that_is_so(best, why, said, read_html):
    page = read_html(join([training_curves(CLASSIFIER, [], "top1", best, why)]))
    sentence = "The training loss lies above the validation loss, since in training only images are augmented."
    assert (sentence in page.text) == said
    assert ("lies above" in page.text) == said


def test_all_numbers_are_listed_with_units(read_html):
    page = read_html(join([training_curves(SEGMENTER, [], "miou", 1)]))
    table = page.text.partition("Every epoch of the run")[2]
    assert "validation mIoU, %" in table
    assert "33.00" in table
    assert "scored" not in table
