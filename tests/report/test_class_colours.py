"""Class colours are distinct, also to colour-blind readers, and the same wherever they are requested."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from foveal.report.draw_legend import MOST, NEUTRAL, class_colours, palette


def lab(colours):
    return rgb2lab(np.asarray(colours)[None] / 255)[0]


@pytest.mark.parametrize(("count", "distance"), [(8, 15), (16, 10), (32, 8), (150, 3.5), (256, 2.5)])
def test_the_first_so_many_colours_differ(count, distance):
    """By CIEDE2000, where 1 is just noticeable side by side."""
    seen = lab(palette()[:count])
    apart = deltaE_ciede2000(seen[:, None], seen[None])
    assert apart[~np.eye(count, dtype=bool)].min() > distance


def test_no_class_looks_like_the_background_or_like_black_or_white():
    for plain in (NEUTRAL, (0, 0, 0), (255, 255, 255)):
        assert deltaE_ciede2000(lab(palette()), lab([plain])).min() > 10


def test_a_label_keeps_its_colour_whatever_the_other_classes_are():
    few, many = class_colours(["wall", "sky"]), class_colours([str(number) for number in range(150)])
    assert (few == many[:2]).all()
    assert few.dtype == np.uint8
    assert len(class_colours(["x"] * (MOST + 1))) == MOST + 1  # they begin again


def test_a_background_is_grey_wherever_it_stands_and_takes_no_colour_from_others():
    first, second = class_colours(["background", "cat"]), class_colours(["cat", "background"])
    assert tuple(first[0]) == tuple(second[1]) == NEUTRAL
    assert (first[1] == palette()[1]).all()
    assert (second[0] == palette()[0]).all()


def test_pictures_of_two_releases_have_the_same_colours():
    assert palette()[:6].tolist() == [
        [165, 240, 0],
        [255, 180, 255],
        [60, 60, 225],
        [180, 0, 0],
        [255, 135, 0],
        [225, 90, 240],
    ]
    assert palette()[-1].tolist() == [240, 210, 120]
