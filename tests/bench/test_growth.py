"""How time and memory grow with the image size."""

import pytest

from foveal.bench.measure import Spread
from foveal.bench.results import Result, growth
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject


def measured(name, side, seconds, peak, batch=2):
    spread = Spread(seconds, seconds, seconds)
    setting = Setting(batch=batch, height=side, width=side)
    return Result(ModelSubject(name), setting, 2, spread, None, None, 0, peak, None)


def test_linear_cost_has_growth_1_and_quadratic_cost_grows_with_the_area():
    linear = [measured("a", 100, 1.0, 10), measured("a", 200, 4.0, 40)]
    quadratic = [measured("b", 100, 1.0, 10), measured("b", 200, 16.0, 160)]
    a, b = growth([linear[0], quadratic[0], linear[1], quadratic[1]])
    assert (a.name, a.growth, a.peak_growth) == ("a", (1, 1), (1, 1))
    assert (b.name, b.growth, b.peak_growth) == ("b", (1, 4), (1, 4))


def test_values_are_per_image_and_sorted_by_pixel_count():
    (found,) = growth([measured("a", 128, 8.0, 400), measured("a", 64, 2.0, 100)])
    assert found.sizes == ((64, 64), (128, 128))
    assert (found.seconds, found.peak) == ((1.0, 4.0), (50, 200))


def test_unmeasured_memory_has_no_growth():
    (found,) = growth([measured("a", 64, 1.0, None), measured("a", 96, 1.0, 7)])
    assert found.peak_growth == (None, None)
    assert found.growth[1] == pytest.approx((64 / 96) ** 2)


def test_a_subject_measured_at_one_size_has_no_growth():
    assert growth([measured("a", 64, 1.0, 1)]) == []
