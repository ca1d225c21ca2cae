"""The plots of a detection evaluation show its metrics, and annotations next to detections."""

import numpy as np
import pytest

from foveal.plotting import save_whole
from foveal.report.draw_objects import Comparison, class_colour, draw_comparisons, draw_objects
from foveal.report.evaluation_detection import draw_classes, draw_precision_recall
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.predict import DetectedObject


@pytest.fixture
def scores():
    """Two cats, the first detected with an IoU of 0.6, and an exactly detected dog, in one image."""
    boxes = {1: [(10, 10, 50, 50), (100, 100, 50, 50)], 2: [(100, 10, 50, 50)]}
    marked = [{"image_id": 1, "category_id": c, "bbox": list(box)} for c, some in boxes.items() for box in some]
    truth = {
        "images": [{"id": 1, "height": 200, "width": 200}],
        "annotations": marked,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "eel"}],
    }
    found = [
        {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [10, 10, 50, 30]},
        {"image_id": 1, "category_id": 2, "score": 0.9, "bbox": [100, 10, 50, 50]},
    ]
    return average_precision(truth, found, "box")


def test_precision_is_drawn_against_recall(scores, tmp_path):
    figure = draw_precision_recall([scores], "net")
    half, three_quarters, mean = figure.axes[0].lines
    recall = np.arange(101)
    dog = np.ones(101)
    np.testing.assert_allclose(half.get_ydata(), 50 * ((recall <= 50) + dog))
    np.testing.assert_allclose(three_quarters.get_ydata(), 50 * dog)
    np.testing.assert_allclose(mean.get_ydata(), 50 * (0.3 * (recall <= 50) + dog))  # correct at three of ten IoUs
    np.testing.assert_allclose(half.get_xdata(), recall)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == f"IoU 0.50: AP {50 + 50 * 51 / 101:.1f}"
    save_whole(figure, tmp_path / "pr.png")
    assert (tmp_path / "pr.png").stat().st_size > 0


def test_class_bars_are_sorted_and_omit_classes_without_objects(scores):
    axes = draw_classes([scores, scores], "net").axes
    assert [bar.get_width() for bar in axes[0].patches] == pytest.approx([100, 30 * 51 / 101])
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["dog   100.0", "cat   15.1"]
    assert [label.get_text().strip() for label in axes[1].get_yticklabels()] == ["100.0", "15.1"]


def comparison(height, width, label):
    image = np.full((height, width, 3), 100, np.uint8)
    box = (width / 4, height / 4, width / 2, height / 2)
    marked, found = DetectedObject(label, "cat", None, box), DetectedObject(label + 1, "dog", 0.8, box)
    return Comparison("a.png", image, [marked], [found])


@pytest.mark.parametrize("count", [1, 3])
def test_a_sheet_shows_each_image_as_annotated_and_as_detected(count):
    pairs = [comparison(*size, 2 * number) for number, size in enumerate([(80, 120), (120, 60), (40, 40)][:count])]
    sheet = draw_comparisons(pairs, columns=2, side=200)
    for pair in pairs:
        for objects in (pair.annotated, pair.detected):
            picture = draw_objects(pair.image, objects, 200)
            assert any(
                (sheet[y : y + picture.shape[0], x : x + picture.shape[1]] == picture).all()
                for y, x in corners(sheet, objects[0].label, picture)
            )


def corners(sheet, label, picture):
    """Possible position of the picture, from its first coloured pixel."""
    first = np.argwhere((picture == class_colour(label)).all(-1))[0]
    places = np.argwhere((sheet == class_colour(label)).all(-1))[:1] - first
    return places.tolist()
