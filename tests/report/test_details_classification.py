"""The details of a classifier's evaluation as files: tables with every class and mistake, and their pictures."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.report import details_classification as details
from foveal.report.chart_calibration import draw_calibration
from foveal.report.chart_confusion import draw_confusion, most_confused
from foveal.report.draw_tiles import Tile, draw_tiles
from foveal.report.evaluation_classification import write_results
from foveal.tasks.classification.answers import Calibration, TopAnswers
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.score import Score


@pytest.fixture
def images(tmp_path):
    """Three cats, two dogs and an eel, each of its own grey."""
    for name, values in {"cat": (10, 20, 30), "dog": (100, 120), "eel": (200,)}.items():
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        for value in values:
            Image.new("RGB", (40, 32), (value,) * 3).save(tmp_path / "data" / "val" / name / f"{value}.png")
    return open_split(tmp_path / "data", "val")


@pytest.fixture
def cell(images):
    """A cat taken for a dog, surely, and a dog taken for an eel, less surely."""
    answers = TopAnswers(
        torch.arange(6),
        torch.tensor([0, 0, 0, 1, 1, 2]),
        torch.tensor([0, 1, 0, 1, 2, 2]),
        torch.tensor([0.9, 0.95, 0.8, 0.7, 0.6, 0.99]),
    )
    score = Score(6, 100 * 4 / 6, 100.0, 0.5, 10.0, (3, 2, 1), answers=answers)
    return Cell("val", None, (32, 32), None, score, images.classes, source=images)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_tables_have_every_class_and_every_mistake(cell, images, tmp_path):
    details.write_details(tmp_path, cell, "net")
    assert rows(tmp_path / "classes.csv") == [
        ["class", "images", "right", "accuracy_percent"],
        ["cat", "3", "2", "66.67"],
        ["dog", "2", "1", "50.0"],
        ["eel", "1", "1", "100.0"],
    ]
    assert rows(tmp_path / "confusion.csv") == [
        ["true class", "cat", "dog", "eel"],
        ["cat", "2", "1", "0"],
        ["dog", "0", "1", "1"],
        ["eel", "0", "0", "1"],
    ]
    assert rows(tmp_path / "mistakes.csv")[1:] == [
        [images.names[1], "cat", "dog", "0.95"],
        [images.names[4], "dog", "eel", "0.6"],
    ]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["calibration.png", "confusion.png", "mistakes.png"]
    for picture in tmp_path.glob("*.png"):
        Image.open(picture).verify()


def test_the_sheet_shows_the_worst_mistakes_first(cell, tmp_path):
    details.write_details(tmp_path, cell, "net")
    sheet = np.asarray(Image.open(tmp_path / "mistakes.png"))
    places = [np.argwhere((sheet == value).all(-1)).min(0) for value in (20, 120)]
    assert places[0][0] == places[1][0]
    assert places[0][1] < places[1][1]
    assert not (sheet == 30).all(-1).any()


def test_without_a_mistake_there_is_no_sheet(images, tmp_path):
    whole = torch.tensor(images.targets)
    answers = TopAnswers(torch.arange(6), whole, whole, torch.ones(6))
    score = Score(6, 100.0, 100.0, 0.1, 10.0, (3, 2, 1), answers=answers)
    cell = Cell("val", None, (32, 32), None, score, images.classes, source=images)
    details.write_details(tmp_path, cell, "net")
    assert not (tmp_path / "mistakes.png").exists()
    write_results(tmp_path / "out", {"model": "net"}, [cell])
    assert "mistakes.csv" not in {path.name for path in (tmp_path / "out").iterdir()}


def test_results_say_accuracy_by_class_and_the_calibration_error(cell):
    document = cell.document()
    assert document["by_class"][0] == {"class": "cat", "images": 3, "accuracy": pytest.approx(200 / 3)}
    # 0.95 (wrong) and 0.99 (right) share the bin above 14/15: confidence 97, accuracy 50; the others are alone
    assert document["calibration"]["expected_calibration_error"] == pytest.approx((10 + 20 + 30 + 60 + 2 * 47) / 6)
    assert document["calibration"]["bins"] == 15


def test_of_many_classes_those_with_the_most_mistakes_are_drawn():
    counts = np.diag([5, 5, 5, 5])
    counts[3, 1] = 2
    assert most_confused(counts, 2).tolist() == [1, 3]
    figure = draw_confusion(counts, ["a", "b", "c", "d"], ["a", "b", "c", "d"], "net", ("true", "predicted"))
    numbers = {(*text.get_position(), text.get_text()) for text in figure.axes[0].texts}
    assert (1, 3, "29") in numbers
    assert (3, 3, "71") in numbers


def test_the_reliability_diagram_has_a_bar_of_each_bin_that_is_not_empty():
    found = Calibration.of(torch.tensor([0.3, 0.9]), torch.tensor([False, True]), bins=4)
    figure = draw_calibration(found, "net")
    upper, lower = figure.axes
    assert [bar.get_height() for bar in upper.patches] == [0, 100]
    assert [bar.get_height() for bar in lower.patches] == [0, 50, 0, 50]
    assert "expected calibration error 20.00 % (4 bins)" in figure.get_suptitle()


def test_tiles_of_any_proportions_are_whole():
    tall, wide = np.full((60, 20, 3), 7, np.uint8), np.full((10, 50, 3), 9, np.uint8)
    sheet = draw_tiles(
        [Tile(tall, ["tall"]), Tile(wide, ["a name that is much too long for its tile" * 2])], "two", side=120
    )
    assert (sheet == 7).all(-1).sum() == 120 * 40
    assert (sheet == 9).all(-1).sum() == 120 * 24
