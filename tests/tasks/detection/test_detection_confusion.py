"""The confusion matrix of a detector with a background, against cases worked out by hand."""

import numpy as np
import pytest

from foveal.tasks.detection.confusion import confusion
from foveal.tasks.detection.results import ImageResult

CAT, DOG, NOTHING = 0, 1, 2
IDS = [3, 7]


def truth(*objects, crowds=()):
    """One image with objects (label, (x, y, width, height)), and crowds."""
    rows = [*((label, box, 0) for label, box in objects), *((label, box, 1) for label, box in crowds)]
    return {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "annotations": [
            {"image_id": 1, "category_id": IDS[label], "bbox": list(box), "iscrowd": crowd}
            for label, box, crowd in rows
        ],
    }


def found(*objects):
    """Detections (label, score, (x, y, width, height))."""
    corners = np.array([(x, y, x + w, y + h) for _, _, (x, y, w, h) in objects], np.float32).reshape(-1, 4)
    labels, scores = np.array([one[0] for one in objects], np.int64), np.array([one[1] for one in objects], np.float32)
    return [ImageResult(1, corners, labels, scores)]


def test_right_wrong_invented_and_missed_objects_have_their_cells():
    """A cat that is found, a dog taken for a cat, a dog that is missed, and a dog where nothing is; the fifth detection
    has a score below 0.5."""
    marked = truth((CAT, (0, 0, 20, 20)), (DOG, (40, 0, 20, 20)), (DOG, (0, 40, 30, 30)))
    boxes = [
        (CAT, 0.9, (0, 0, 20, 20)),
        (CAT, 0.8, (40, 0, 20, 20)),
        (DOG, 0.7, (70, 70, 20, 20)),
        (DOG, 0.4, (0, 40, 30, 30)),
    ]
    matrix = confusion(found(*boxes), marked, IDS)
    assert matrix.counts.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert [(one.label, one.true, one.box) for one in matrix.spurious] == [
        (CAT, DOG, (40, 0, 60, 20)),
        (DOG, None, (70, 70, 90, 90)),
    ]
    assert [(one.label, one.box, one.area) for one in matrix.missed] == [(DOG, (0, 40, 30, 70), 900)]
    assert (matrix.document(["cat", "dog"])["iou"], matrix.document(["cat", "dog"])["score"]) == (0.5, 0.5)
    assert matrix.document(["cat", "dog"])["classes"] == ["cat", "dog", "background"]


@pytest.mark.parametrize(("width", "matched"), [(10, True), (9, False)])
def test_a_pair_overlaps_with_an_iou_of_at_least_a_half(width, matched):
    matrix = confusion(found((CAT, 0.9, (0, 0, width, 20))), truth((CAT, (0, 0, 20, 20))), IDS)
    assert matrix.counts[CAT, CAT] == matched
    assert matrix.counts[CAT, NOTHING] == matrix.counts[NOTHING, CAT] == (not matched)


def test_the_most_certain_detection_takes_the_object_and_the_second_one_has_none():
    boxes = [(DOG, 0.6, (0, 0, 20, 20)), (CAT, 0.9, (0, 0, 20, 18))]
    matrix = confusion(found(*boxes), truth((CAT, (0, 0, 20, 20))), IDS)
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_detection_takes_the_object_that_it_overlaps_most():
    marked = truth((DOG, (0, 0, 20, 20)), (CAT, (2, 0, 20, 20)))
    matrix = confusion(found((CAT, 0.9, (2, 0, 20, 20))), marked, IDS)
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_detections_in_a_crowd_do_not_count():
    marked = truth((CAT, (0, 0, 20, 20)), crowds=[(DOG, (50, 50, 50, 50))])
    boxes = [(CAT, 0.9, (0, 0, 20, 20)), (DOG, 0.8, (60, 60, 10, 10)), (DOG, 0.7, (40, 60, 15, 10))]
    matrix = confusion(found(*boxes), marked, IDS)
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]  # a third of the last box lies in the crowd


def test_images_without_objects_or_detections_count():
    empty = {"images": [{"id": 1}], "annotations": []}
    assert confusion(found((DOG, 0.9, (0, 0, 9, 9))), empty, IDS).counts.sum() == 1
    assert confusion(found(), truth((CAT, (0, 0, 9, 9))), IDS).counts[CAT, NOTHING] == 1
