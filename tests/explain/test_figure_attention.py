import io
import sys

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.explain.attention import AttentionMaps
from foveal.explain.figures.attention import attention_figure, colour_scale, encode, head_panels, mark_query, overlay

GREY = np.full((32, 48, 3), 128, dtype=np.uint8)


def maps(heads: int = 2) -> AttentionMaps:
    draw = np.random.default_rng(0)
    foveal = draw.normal(size=(heads, 4, 6)).astype(np.float32)
    peripheral = draw.normal(size=(heads, 2, 3)).astype(np.float32)
    window = np.full((heads, 3, 3), 0.05, np.float32)
    pooled = np.full((heads, 2, 3), 0.55 / 6, np.float32)
    return AttentionMaps((2, 3), foveal, peripheral, window, pooled, 0 * window, 2, 0, 16, (64, 96))


def lightness(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("L"), dtype=float)


def test_higher_values_are_lighter_and_each_cell_fills_its_own_area():
    heat = np.arange(6, dtype=float).reshape(2, 3)
    light = lightness(overlay(GREY, heat, 0, 5))
    cells = light.reshape(2, 16, 3, 16).transpose(0, 2, 1, 3).reshape(6, -1)
    assert (cells.std(axis=1) == 0).all()
    assert (np.diff(cells[:, 0]) > 0).all()


def test_values_outside_the_range_are_clipped():
    ends = overlay(GREY, np.array([[0.0, 1.0]]), 0, 1)
    np.testing.assert_array_equal(overlay(GREY, np.array([[-9.0, 9.0]]), 0, 1), ends)


def test_a_constant_map_can_be_drawn():
    assert overlay(GREY, np.full((2, 2), 3.0), 3.0, 3.0).shape == GREY.shape


def test_the_photograph_shows_through():
    photo = GREY.copy()
    photo[:, 24:] = 250
    light = lightness(overlay(photo, np.zeros((1, 1)), 0, 1))
    assert light[:, 24:].min() > light[:, :24].max() + 20


def test_the_lightness_of_the_colour_scale_rises_evenly():
    steps = np.diff(lightness(colour_scale())[0][::16])
    assert (steps > 0).all()
    assert steps.max() < 3 * steps.mean()


def test_the_query_is_marked_at_its_position():
    marked = mark_query(np.zeros((64, 96, 3), np.uint8), maps())
    rows, columns = np.nonzero(marked.any(axis=2))
    assert (rows.min(), rows.max()) == pytest.approx((16, 64), abs=2)  # rows 1 to 3 of 4, of 16 pixels each
    assert (columns.min(), columns.max()) == pytest.approx((32, 80), abs=2)  # columns 2 to 4 of 6


def test_each_head_gets_a_panel_of_the_image_size():
    panels = head_panels(GREY, maps(heads=3))
    assert len(panels) == 3
    assert {panel.foveal.shape for panel in panels} | {panel.peripheral.shape for panel in panels} == {GREY.shape}
    assert panels[0].foveal_share == pytest.approx(0.45)


def test_the_figure_is_a_png_with_transparent_corners_on_a_dark_background():
    picture = Image.open(io.BytesIO(attention_figure(GREY, maps(), "Title", "Note")))
    assert picture.format == "PNG"
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0
    assert picture.getpixel((picture.width // 2, 20))[3] == 255
    assert max(picture.getpixel((picture.width // 2, 20))[:3]) < 50


def test_png_encoding_is_lossless():
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(picture)))), picture)
    assert Image.open(io.BytesIO(encode(picture, "JPEG"))).format == "JPEG"


def test_missing_matplotlib_names_the_extra_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.cm", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        overlay(GREY, np.zeros((1, 1)), 0, 1)
