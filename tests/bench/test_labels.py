"""Labels of a scatter chart keep clear of each other, of markers and of the frame."""

import random
from itertools import combinations

import pytest

from foveal.bench.labels import Box, place_labels

FRAME = Box(200, 200, 400, 400)


def test_the_shared_area_of_two_boxes():
    assert Box(0, 0, 4, 2).overlap(Box(3, 1, 4, 2)) == 1 * 1
    assert Box(0, 0, 4, 2).overlap(Box(4, 0, 4, 2)) == 0  # they touch
    assert Box(0, 0, 10, 10).overlap(Box(1, 1, 2, 2)) == 2 * 2  # one inside the other


def test_the_distance_of_two_boxes():
    assert Box(0, 0, 2, 2).distance(Box(5, 6, 2, 2)) == pytest.approx(5)  # 3 across and 4 up
    assert Box(0, 0, 2, 2).distance(Box(1, 1, 2, 2)) == 0
    assert Box(0, 0, 4, 2).nearest(Box(9, 0.5, 2, 2)) == (2, 0.5)


def test_a_lone_label_is_to_the_right_of_its_marker():
    (place,) = place_labels([Box(200, 200, 8, 8)], [(40, 10)], FRAME)
    assert place.y == 200
    assert 0 < place.x - 20 - 204 < 5


@pytest.mark.parametrize(("x", "left"), [(395, True), (5, False)])
def test_a_label_stays_inside_the_frame(x, left):
    (place,) = place_labels([Box(x, 200, 8, 8)], [(40, 10)], FRAME)
    assert (place.x < x) == left
    assert place.overlap(FRAME) == 400


def test_a_label_does_not_cover_an_obstacle():
    wall = Box(230, 200, 8, 60)
    (place,) = place_labels([Box(200, 200, 8, 8)], [(40, 10)], FRAME, [wall])
    assert place.overlap(wall) == 0


@pytest.mark.parametrize("seed", range(5))
def test_labels_cover_no_label_and_no_marker(seed):
    draw = random.Random(seed)
    markers = [Box(draw.uniform(60, 340), draw.uniform(60, 340), 8, 8) for _ in range(20)]
    places = place_labels(markers, [(50, 10)] * 20, FRAME)
    assert [a.overlap(b) for a, b in combinations(places, 2) if a.overlap(b)] == []
    for place, own in zip(places, markers, strict=True):
        assert all(place.overlap(marker) == 0 for marker in markers)
        assert place.distance(own) <= 36
