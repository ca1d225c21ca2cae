"""Class colours are distinct, also for colour-blind readers, and always the same."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from foveal.report.draw_legend import MOST, NEUTRAL, class_colours, palette
from foveal.tasks.dense.shapes import CLASSES


def lab(colours):
    return rgb2lab(np.asarray(colours)[None] / 255)[0]


@pytest.mark.parametrize(("count", "distance"), [(8, 15), (16, 10), (32, 8), (150, 3.5), (256, 2.5)])
def test_the_first_colours_are_distinct(count, distance):
    """Distances are CIEDE2000, where 1 is just noticeable side by side."""
    seen = lab(palette()[:count])
    apart = deltaE_ciede2000(seen[:, None], seen[None])
    assert apart[~np.eye(count, dtype=bool)].min() > distance


def test_no_class_colour_is_close_to_the_background_black_or_white():
    for plain in (NEUTRAL, (0, 0, 0), (255, 255, 255)):
        assert deltaE_ciede2000(lab(palette()), lab([plain])).min() > 10


def test_the_colour_of_a_label_is_independent_of_other_classes():
    few, many = class_colours(["wall", "sky"]), class_colours([str(number) for number in range(150)])
    assert (few == many[:2]).all()
    assert few.dtype == np.uint8
    assert len(class_colours(["x"] * (MOST + 1))) == MOST + 1  # the palette repeats


def test_the_background_is_grey_at_any_index_and_shifts_no_other_colour():
    first, second = class_colours(["background", "cat"]), class_colours(["cat", "background"])
    assert tuple(first[0]) == tuple(second[1]) == NEUTRAL
    assert (first[1] == palette()[1]).all()
    assert (second[0] == palette()[0]).all()


def test_the_first_colours_are_those_of_okabe_and_ito():
    """As published at https://jfly.uni-koeln.de/color, without black."""
    published = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
    assert ["#{:02X}{:02X}{:02X}".format(*colour) for colour in palette()[:7].tolist()] == published


def test_the_classes_of_the_generated_shapes_are_far_apart():
    """Circle and ring were two pinks. A distance of 20 is seen at a glance."""
    seen = lab(class_colours(["background", *CLASSES]))
    apart = deltaE_ciede2000(seen[:, None], seen[None])
    assert apart[~np.eye(len(seen), dtype=bool)].min() > 20


def test_colours_are_stable_across_releases():
    assert palette()[7:10].tolist() == [[165, 0, 120], [75, 240, 210], [180, 90, 255]]
    assert palette()[-1].tolist() == [120, 60, 180]
