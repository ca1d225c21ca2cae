"""A classifier's sections: hand-computed accuracies, the confusion matrix, and examples with their pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.report.findings import Findings
from foveal.report.findings_classification import findings
from foveal.report.page import join, probability_bar
from foveal.report.page_classification import confusion, examples, least_confident
from foveal.report.page_matrix import MOST_CLASSES, Matrix, class_table
from foveal.tasks.classification.answers import TopAnswers
from foveal.tasks.classification.data import open_split


@pytest.fixture
def made(tmp_path):
    """Return images of three classes x, y and z with these targets, and answers of 80 % each."""

    def make(targets: list[int], predictions: list[int], side: int = 8):
        for number, target in enumerate(sorted(targets)):
            folder = tmp_path / "val" / "xyz"[target]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side)).save(folder / f"{number:03}.png")
        images = open_split(tmp_path, "val")
        images.classes = ["x", "y", "z"]
        count = len(targets)
        answers = TopAnswers(
            torch.arange(count), torch.tensor(targets), torch.tensor(predictions), torch.full((count,), 0.8)
        )
        return answers, images

    return make


@pytest.mark.parametrize(
    ("targets", "predictions", "sentence"),
    [
        ([0, 1, 2], [0, 1, 2], "0 of 3 validation images were misclassified."),
        ([0, 1, 2], [0, 2, 1], "2 of 3 validation images were misclassified. No confusion occurred twice."),
        ([0, 2, 2, 2], [0, 1, 1, 2], "The most common confusion: z taken for y (2 of 3 images)."),
    ],
)
def test_the_confusion_summary_counts_errors(targets, predictions, sentence, read_html):
    answers = TopAnswers(*map(torch.tensor, (list(range(len(targets))), targets, predictions, [0.8] * len(targets))))
    assert sentence in read_html(join([confusion(answers.confusion(3), ["x", "y", "z"])])).text


def test_the_accuracy_of_each_class_is_the_one_counted_by_hand(read_html):
    """Three images of x, two of them right; two of y, one right; none of z."""
    counts = torch.tensor([[2, 1, 0], [0, 1, 1], [0, 0, 0]])
    page = read_html(join([confusion(counts, ["x", "y", "z"])]))
    table = page.text.partition("Accuracy by class")[2]
    assert table.replace("classimagesrightaccuracy", "") == "x3266.67 %y2150.00 %z00no image"


def test_a_page_without_errors_says_so(made, read_html):
    page = read_html(join([examples(*made([0, 1, 2], [0, 1, 2]))]))
    assert "No validation image was misclassified." in page.text
    assert len(page.all("img")) == 3


def test_many_errors_are_truncated_with_a_note(made, read_html):
    page = read_html(join([examples(*made([0] * 30, [1] * 30))]))
    assert "Wrong: the 12 most confident of 30" in page.text
    assert len(page.all("img")) == 12


def test_the_right_examples_are_the_least_confident_of_each_class():
    answers = TopAnswers(
        torch.arange(5),
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([0, 0, 1, 1, 0]),
        torch.tensor([0.9, 0.7, 0.6, 0.8, 0.5]),
    )
    assert least_confident(answers) == [2, 1]


def test_large_photographs_become_small_pictures(made, read_html):
    answers, images = made([0, 1], [1, 1], side=1200)
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3)).astype(np.uint8)
    for name in images.names:
        Image.fromarray(noise).save(name)
    page = read_html(join([examples(answers, images)]))
    assert len(page.source) < 60_000
    assert all(image["src"].startswith("data:image/jpeg") for image in page.all("img"))


def test_the_findings_say_how_many_images_were_looked_at(made):
    answers, images = made([0, 1, 2], [0, 1, 1])
    found = findings(answers, images, "net")
    assert found.lead == "net distinguishes 3 classes. It classifies 2 of 3 validation images correctly."
    assert (found.looked_at, found.images, found.scope) == (3, 3, None)
    assert str(found.example) == images.names[0]
    assert "10,000 validation images, evenly spread over all 50,000" in Findings("", 10_000, 50_000, (), every=5).scope
    assert Findings("", 49_999, 50_000, ()).scope is None  # one could not be read


def test_the_matrix_shows_every_count(read_html):
    page = read_html(Matrix(np.array([[5, 1], [0, 7]]), ["a", "b"], ["a", "b"], "").html())
    assert [cell.get("class") for cell in page.all("td")[1:]] == ["hit", "miss", None, "hit"]
    assert "a51" in page.text
    assert "b07" in page.text


def test_a_matrix_of_pixels_shows_percent_of_each_row(read_html):
    counts = np.array([[750, 250], [1, 99_999]])
    page = read_html(Matrix.of_classes(counts, ["a", "b"], "", shares=True).html())
    assert "a75.025.0" in page.text
    assert "b< 0.1100.0" in page.text


def test_the_background_is_no_right_answer(read_html):
    counts = np.array([[3, 1], [2, 0]])
    page = read_html(Matrix.with_background(counts, ["cat"], "background", "").html())
    assert [cell.get("class") for cell in page.all("td")[1:]] == ["hit", "miss", "miss", "zero"]


def test_of_many_classes_the_matrix_has_those_with_the_most_mistakes():
    """Classes 3 and 5 are taken for each other; all others are right."""
    count = 2 * MOST_CLASSES
    counts = np.diag(np.full(count, 10))
    counts[3, 5], counts[5, 3] = 4, 6
    matrix = Matrix.of_classes(counts, [f"c{n}" for n in range(count)], "")
    assert len(matrix.rows) == MOST_CLASSES
    assert {"c3", "c5"} <= set(matrix.rows)
    assert matrix.columns[-1] == "others"
    assert matrix.counts.sum(1).tolist() == [counts[int(name[1:])].sum() for name in matrix.rows]


def test_a_long_table_of_classes_is_folded_below_the_lowest_ones(read_html):
    rows = [(f"c{n}", (), float(n), f"{n}") for n in range(100)]
    page = read_html(join([class_table("Accuracy", ("class", "accuracy"), rows)]))
    assert len(page.all("details")) == 1
    before, _, folded = page.text.partition("All 100 classes")
    assert "the 12 lowest of 100" in before
    assert all(f"c{n}{n}" in before for n in range(12))
    assert "c1212" not in before
    assert all(f"c{n}{n}" in folded for n in range(100))


def test_the_length_of_a_probability_bar_is_the_probability(read_html):
    (bar, *_) = read_html(probability_bar("a", 0.256)).all("div")
    assert bar["style"] == "--share: 25.6%"
