"""Masks as polygons and run lengths, exact to the pixel."""

import numpy as np
import pytest
from pycocotools import mask as pycoco

from foveal.tasks.dense.shapes.coco import outlines, runs, segmentation


def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def decoded(coded, height, width):
    coded = pycoco.merge(pycoco.frPyObjects(coded, height, width)) if isinstance(coded, list) else coded
    return pycoco.decode(pycoco.frPyObjects(coded, height, width) if isinstance(coded["counts"], list) else coded)


def test_a_rectangle_has_four_corners():
    assert outlines(drawn("....", ".##.", ".##.")) == [[(1, 1), (3, 1), (3, 3), (1, 3)]]


def test_pixels_that_touch_at_a_corner_become_two_polygons():
    assert segmentation(drawn("#.", ".#")) == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]


def test_a_mask_with_a_hole_becomes_run_lengths():
    assert segmentation(drawn("###", "#.#", "###")) == {"size": [3, 3], "counts": [0, 4, 1, 4]}


def test_a_bay_that_opens_only_at_corners_is_not_a_hole():
    mask = drawn("###.", "#.#.", "##.#", "####")
    assert len(outlines(mask)) == 1
    assert (decoded(segmentation(mask), 4, 4) == mask).all()


@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.85])
def test_pycocotools_decodes_every_mask_exactly(share):
    draw = np.random.default_rng(int(share * 100))
    for _ in range(60):
        height, width = draw.integers(1, 12, 2)
        mask = draw.random((height, width)) < share
        assert (decoded(runs(mask), height, width) == mask).all()
        if mask.any():
            assert (decoded(segmentation(mask), height, width) == mask).all()


def test_outlines_enclose_the_area_of_the_mask():
    draw = np.random.default_rng(0)
    for _ in range(50):
        mask = draw.random((9, 11)) < 0.6
        total = 0
        for loop in outlines(mask):
            x, y = np.array(loop).T
            total += (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        assert total == mask.sum()
