"""The arithmetic of time and memory against the size."""

import pytest

from foveal.bench.measure import Spread
from foveal.bench.results import Result, growth
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject


def measured(name, side, seconds, peak, batch=2):
    spread = Spread(seconds, seconds, seconds)
    setting = Setting(batch=batch, height=side, width=side)
    return Result(ModelSubject(name), setting, 2, spread, None, None, 0, peak, None)


def test_linear_cost_is_one_and_quadratic_cost_the_growth_of_the_area():
    linear = [measured("a", 100, 1.0, 10), measured("a", 200, 4.0, 40)]
    quadratic = [measured("b", 100, 1.0, 10), measured("b", 200, 16.0, 160)]
    a, b = growth([linear[0], quadratic[0], linear[1], quadratic[1]])
    assert (a.name, a.growth, a.peak_growth) == ("a", (1, 1), (1, 1))
    assert (b.name, b.growth, b.peak_growth) == ("b", (1, 4), (1, 4))


def test_everything_is_of_one_image_and_in_order_of_the_pixels():
    (found,) = growth([measured("a", 128, 8.0, 400), measured("a", 64, 2.0, 100)])
    assert found.sizes == ((64, 64), (128, 128))
    assert (found.seconds, found.peak) == ((1.0, 4.0), (50, 200))


def test_memory_that_was_not_measured_has_no_growth():
    (found,) = growth([measured("a", 64, 1.0, None), measured("a", 96, 1.0, 7)])
    assert found.peak_growth == (None, None)
    assert found.growth[1] == pytest.approx((64 / 96) ** 2)


def test_a_subject_at_one_size_does_not_grow():
    assert growth([measured("a", 64, 1.0, 1)]) == []
