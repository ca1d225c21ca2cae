"""The files of a segmentation evaluation show its metrics, and images next to their label maps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.report.draw_label_map import Example, draw_examples, draw_label_map
from foveal.report.draw_legend import class_colours
from foveal.report.evaluation_segmentation import (
    LONGEST,
    MOST_CONFUSED,
    MOST_EXAMPLES,
    choose_examples,
    draw_classes,
    draw_confusion,
    write_evaluation,
)
from foveal.tasks.segmentation import IGNORED
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.tasks.segmentation.metrics import ConfusionMatrix

CLASSES = ["wall", "sky", "tree", "lamp"]


def evaluation(broken=()):
    """8 of 10 wall and all 4 sky pixels are correct; 2 wall pixels are predicted as sky, 1 tree pixel as wall."""
    confusion = ConfusionMatrix(4)
    confusion.add(torch.tensor([0] * 8 + [1] * 6 + [0]), torch.tensor([0] * 10 + [1] * 4 + [2]))
    return SegmentationEvaluation(confusion.scores(), CLASSES, 10, list(broken), 2.5, confusion.counts)


class Made:
    """Images of a single colour that depends on the index, half wall, half ignored."""

    def __init__(self, count):
        self.paths = [Path(f"images/{index:02}.png") for index in range(count)]
        self.label_paths = [Path(f"labels/{index:02}.png") for index in range(count)]

    def __len__(self):
        return len(self.paths)

    def name(self, index):
        return self.paths[index].stem

    def image(self, index):
        return torch.full((3, 20, 30), 5 * index, dtype=torch.uint8)

    def labels(self, index):
        labels = torch.zeros(20, 30, dtype=torch.int64)
        labels[:, 15:] = IGNORED
        return labels


def test_class_bars_are_sorted_and_omit_unscored_classes():
    figure = draw_classes(evaluation().scores, CLASSES, "net")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * 8 / 11, 100 * 4 / 6, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["wall   72.7", "sky   66.7", "tree   0.0"]
    marks, mean = axes.lines
    np.testing.assert_allclose(marks.get_xdata(), [80, 100, 0])
    np.testing.assert_allclose(mean.get_xdata(), 100 * (8 / 11 + 4 / 6) / 3)


def test_many_classes_are_split_into_columns_and_none_is_lost():
    count = 150
    confusion = ConfusionMatrix(count)
    confusion.add(torch.arange(count), torch.arange(count))
    names = [f"class {number}" for number in range(count)]
    panels = draw_classes(confusion.scores(), names, "net").axes
    shown = [label.get_text().rpartition("   ")[0] for axes in panels for label in axes.get_yticklabels()]
    assert sorted(shown) == sorted(names)
    assert max(len(axes.patches) for axes in panels) <= LONGEST


def test_confusion_shows_the_predictions_for_each_class():
    (axes,) = draw_confusion(evaluation().counts.numpy(), CLASSES, "net").axes
    (image,) = axes.images
    shares = [[80, 20, 0, 0], [0, 100, 0, 0], [100, 0, 0, 0], [np.nan] * 4]
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), shares)
    numbers = {(*text.get_position(), text.get_text()) for text in axes.texts}  # x is the prediction, y the class
    assert numbers == {(0, 0, "80"), (1, 0, "20"), (1, 1, "100"), (0, 2, "100")}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "annotated")
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES


def test_confusion_of_too_many_classes_is_not_drawn(tmp_path):
    count = MOST_CONFUSED + 1
    confusion = ConfusionMatrix(count)
    confusion.add(torch.arange(count), torch.arange(count))
    names = [f"class {number}" for number in range(count)]
    found = SegmentationEvaluation(confusion.scores(), names, 1, [], 1.0, confusion.counts)
    write_evaluation(tmp_path, {}, found, choose_examples(Made(1), found, lambda image: image[0].long()), "net")
    assert not (tmp_path / "confusion.png").exists()


def test_a_sheet_shows_image_annotation_and_prediction():
    draw = np.random.default_rng(0)
    shown = [
        Example(f"{n}.png", draw.integers(0, 256, (*size, 3)).astype(np.uint8), np.full(size, n), np.full(size, 3))
        for n, size in enumerate([(40, 60), (60, 40), (50, 50)])
    ]
    sheet = draw_examples(shown, CLASSES, columns=2, side=120)
    for example in shown:
        for labels in (np.full(example.annotated.shape, IGNORED), example.annotated, example.predicted):
            assert holds(sheet, draw_label_map(example.image, labels, CLASSES, 120))
    for colour in class_colours(CLASSES):  # the legend has all four
        assert (sheet == colour).all(-1).sum() >= 15**2


def holds(sheet, picture):
    """Whether the picture appears anywhere on the sheet."""
    places = np.argwhere((sheet == picture[0, 0]).all(-1))
    height, width = picture.shape[:2]
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in places)


def test_accuracy_counts_only_labelled_pixels():
    image, labels = np.zeros((1, 4, 3), np.uint8), np.array([[0, 1, 1, IGNORED]])
    assert Example("a", image, labels, np.array([[0, 0, 1, 1]])).right == pytest.approx(200 / 3)
    assert Example("a", image, np.full((1, 4), IGNORED), np.zeros((1, 4))).right is None


def test_examples_are_spread_over_the_readable_images():
    chosen = choose_examples(Made(30), evaluation(["images/00.png", "labels/29.png"]), lambda image: image[0].long())
    assert [example.name for example in chosen] == [f"{n:02}" for n in (1, 5, 9, 13, 16, 20, 24, 28)]
    assert len(chosen) == MOST_EXAMPLES
    assert (chosen[1].image == 25).all()
    assert chosen[1].right == 100  # 25 / 255 is class 0, as annotated in one half
    assert len(choose_examples(Made(3), evaluation(), lambda image: image[0].long())) == 3


def test_all_files_are_written(tmp_path):
    found, folder = evaluation(), tmp_path / "new" / "folder"
    shown = choose_examples(Made(2), found, lambda image: image[0].long())
    write_evaluation(folder, {"results": found.document}, found, shown, "net")
    assert {path.name for path in folder.iterdir()} == {"results.json", "classes.png", "confusion.png", "examples.png"}
    assert json.loads((folder / "results.json").read_text())["results"] == found.document
    for picture in folder.glob("*.png"):
        Image.open(picture).verify()


def test_an_invalid_folder_raises_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FovealError, match=r"could not be written .*choose another --out"):
        write_evaluation(Path(tmp_path / "file" / "folder"), {}, evaluation(), [], "net")
