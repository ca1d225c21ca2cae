"""Plots of measurements are valid image files."""

import sys

import pytest
from PIL import Image

from foveal.bench.measure import Spread
from foveal.bench.operators import OperatorSubject, places
from foveal.bench.plot import check_plot, draw_bars, draw_growth
from foveal.bench.results import Result, growth
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from foveal.errors import FovealError


def measured(subject, seconds, side=64, peak=2**20):
    spread = Spread(0.9 * seconds, seconds, 1.2 * seconds)
    base = ModelSubject("convnext_tiny")
    return Result(subject, Setting(height=side, width=side), 3, spread, base, spread, 1, peak, 1)


def pixels(file):
    with Image.open(file) as picture:
        return picture.size


def test_the_bar_chart_has_one_row_per_subject(tmp_path):
    models = [measured(ModelSubject(n), 0.5) for n in ("transnext_atto", "convnext_tiny")]
    ops = [measured(OperatorSubject(place, "torch"), 0.1) for place in places()]
    draw_bars(tmp_path / "few.png", models, "note")
    draw_bars(tmp_path / "many.png", models + ops, "note")
    few, many = pixels(tmp_path / "few.png"), pixels(tmp_path / "many.png")
    assert few[0] == many[0] > 1000
    assert many[1] > 3 * few[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.png", "many.png"]


@pytest.mark.parametrize("peak", [None, 2**20])
def test_the_line_chart_has_a_memory_panel_only_if_memory_was_measured(tmp_path, peak):
    results = [measured(ModelSubject("transnext_atto"), s / 100, s, peak) for s in (64, 96, 128)]
    draw_growth(tmp_path / "a.png", {"inference": growth(results)}, "note")
    width, height = pixels(tmp_path / "a.png")
    assert width > (2.5 if peak else 1.8) * height


def test_plots_that_cannot_be_drawn_are_rejected_in_advance(tmp_path, monkeypatch):
    with pytest.raises(FovealError, match=r"not a\.jpeg"):
        check_plot(tmp_path / "a.jpeg")
    with pytest.raises(FovealError, match="no folder"):
        check_plot(tmp_path / "away" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        check_plot(tmp_path / "a.png")
