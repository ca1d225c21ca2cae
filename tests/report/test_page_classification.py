import numpy as np
import pytest
import torch
from PIL import Image

from foveal.report.page import confusion_table, join, probability_bar
from foveal.report.page_classification import confusion, examples
from foveal.tasks.classification.evaluate import Evaluation


def evaluation(folder, targets: list[int], predictions: list[int]) -> Evaluation:
    """Three classes; every prediction has a probability of 80 %."""
    paths = []
    for number in range(len(targets)):
        paths.append(str(folder / f"{number}.png"))
        Image.new("L", (8, 8)).save(paths[-1])
    probabilities = torch.full((len(targets), 3), 0.1)
    probabilities[torch.arange(len(targets)), torch.tensor(predictions)] = 0.8
    return Evaluation(
        len(targets),
        0,
        0,
        0,
        1.0,
        tuple(targets.count(label) for label in range(3)),
        probabilities=probabilities,
        targets=torch.tensor(targets),
        paths=paths,
        classes=["x", "y", "z"],
    )


@pytest.mark.parametrize(
    ("targets", "predictions", "sentence"),
    [
        ([0, 1, 2], [0, 1, 2], "0 of 3 validation images were misclassified."),
        ([0, 1, 2], [0, 2, 1], "2 of 3 validation images were misclassified. No confusion occurred twice."),
        ([0, 2, 2, 2], [0, 1, 1, 2], "The most common confusion: z taken for y (2 of 3 images)."),
    ],
)
def test_the_confusion_summary_counts_errors(targets, predictions, sentence, tmp_path, read_html):
    assert sentence in read_html(join([confusion(evaluation(tmp_path, targets, predictions))])).text


def test_a_page_without_errors_says_so(tmp_path, read_html):
    page = read_html(join([examples(evaluation(tmp_path, [0, 1, 2], [0, 1, 2]))]))
    assert "No validation image was misclassified." in page.text
    assert len(page.all("img")) == 3


def test_many_errors_are_truncated_with_a_note(tmp_path, read_html):
    page = read_html(join([examples(evaluation(tmp_path, [0] * 30, [1] * 30))]))
    assert "Wrong: the 20 most confident of 30" in page.text
    assert len(page.all("img")) == 20


def test_the_confusion_table_shows_every_count(read_html):
    counts = np.array([[5, 1], [0, 7]])
    page = read_html(confusion_table(counts, ["a", "b"]))
    assert [cell.get("class") for cell in page.all("td")[1:]] == ["hit", "miss", None, "hit"]
    assert "a51" in page.text
    assert "b07" in page.text


def test_the_length_of_a_probability_bar_is_the_probability(read_html):
    (bar, *_) = read_html(probability_bar("a", 0.256)).all("div")
    assert bar["style"] == "--share: 25.6%"
