"""Pictures of similarities: each token's pixels, colours that both paths share, the query's mark."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.explain.attention import AttentionMaps
from foveal.explain.figures.head_panels import colour_scale, encode, head_panels, marked_photograph
from foveal.explain.figures.similarity import head_scale, paths, similarity_figure
from foveal.plotting import check_drawing

GREY = np.full((64, 96, 3), 128, dtype=np.uint8)
STRIDE = 16


def maps(heads: int = 2, window: int = 3) -> AttentionMaps:
    draw = np.random.default_rng(0)
    foveal = draw.normal(size=(heads, 4, 6)).astype(np.float32)
    peripheral = draw.normal(size=(heads, 2, 3)).astype(np.float32) if window else foveal
    near = np.full((heads, window, window), 0.05, np.float32)
    pooled = np.full((heads, 2, 3), 0.55 / 6, np.float32)
    return AttentionMaps((2, 3), foveal, peripheral, near, pooled, 0 * near, 2, 0, STRIDE, (64, 96))


def lightness(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("L"), dtype=float)


def test_a_token_is_shown_around_pixel_stride_times_its_index():
    found = maps()
    found.foveal[:] = 0
    found.foveal[:, 0, 0], found.foveal[:, 3, 5] = 1, 1  # rows 0 to 7 and 40 to 63, columns 0 to 7 and 72 to 95
    found.peripheral[:] = 0
    light = lightness(head_panels(GREY, found)[0].paths["foveal"])
    dark = light[2, 30]
    assert (light[:8, :8] > dark + 40).all()
    assert (light[40:, 88:] > dark + 40).all()  # away from the mark of the query
    assert light[8, 2] == light[2, 8] == light[38, 90] == dark


def test_both_paths_of_a_head_share_one_colour_scale():
    found = maps()
    found.peripheral[:, 0, 0] = found.foveal[:, 0, 0] = 0.4
    panel = head_panels(GREY, found)[1]
    np.testing.assert_array_equal(panel.paths["foveal"][:8, :8], panel.paths["peripheral"][:8, :8])
    scale = head_scale(found, 0)
    values = np.concatenate([found.foveal[0].flatten(), found.peripheral[0].flatten()])
    assert scale.vmin >= values.min()
    assert scale.vmax <= values.max()


def test_a_token_shows_the_mean_of_the_pooled_cells_that_contain_it():
    """Pooling 5 tokens into 3 cells takes 0-1, 1-3 and 3-4: tokens 1 and 3 belong to two."""
    found = maps(1)
    wide = np.zeros((1, 4, 5), np.float32)
    pooled = np.array([[[1.0, 3.0, 8.0]]], np.float32)
    shape = AttentionMaps((0, 0), wide, pooled, found.window_weights, pooled, found.positional, 2, 0, STRIDE, (64, 80))
    np.testing.assert_allclose(paths(shape)["peripheral"][0], [[1, 2, 3, 5.5, 8]] * 4)


def test_a_block_without_a_window_has_one_picture_per_head():
    assert list(head_panels(GREY, maps(window=0))[0].paths) == ["all tokens"]


def test_a_constant_map_can_be_drawn():
    found = maps()
    found.foveal[:], found.peripheral[:] = 3, 3
    assert head_panels(GREY, found)[0].paths["foveal"].shape == (64, 96, 3)


def test_the_photograph_shows_through():
    photo, found = GREY.copy(), maps()
    photo[:, 48:] = 250
    found.foveal[:], found.peripheral[:] = 0, 0
    light = lightness(head_panels(photo, found)[0].paths["foveal"])
    assert light[:6, 60:].min() > light[:6, :36].max() + 5


def test_the_lightness_of_the_colour_scale_rises_evenly():
    steps = np.diff(lightness(colour_scale())[0][::16])
    assert (steps > 0).all()
    assert steps.max() < 3 * steps.mean()


@pytest.mark.parametrize("enlarged", [1, 3])
def test_the_query_is_marked_at_its_position_at_any_resolution(enlarged):
    marked = marked_photograph(np.zeros((64 * enlarged, 96 * enlarged, 3), np.uint8), maps())
    rows, columns = np.nonzero(marked.any(axis=2))
    assert (rows.min(), rows.max()) == pytest.approx((8, 63), abs=1)  # tokens 1 to 3, the last one up to the edge
    assert (columns.min(), columns.max()) == pytest.approx((24, 71), abs=1)  # tokens 2 to 4, centred on 32, 48, 64
    assert marked[32, 48].min() > 200  # token (2, 3)


def test_each_head_gets_panels_of_the_size_that_the_network_saw():
    panels = head_panels(np.full((200, 300, 3), 128, np.uint8), maps(heads=3))
    assert len(panels) == 3
    assert {shown.shape for panel in panels for shown in panel.paths.values()} == {(64, 96, 3)}
    assert panels[0].foveal_share == pytest.approx(0.45)


@pytest.mark.parametrize("window", [3, 0])
def test_the_figure_shows_both_paths_of_each_chosen_head(window):
    figure = similarity_figure(GREY, maps(4, window), "Title", "Caption", heads=[0, 2, 3])
    pictures = [axes for axes in figure.findobj(lambda a: hasattr(a, "get_images")) if axes.get_images()]
    assert len(pictures) >= 1 + 3 * (2 if window else 1)  # and the colour bar
    words = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")) if text.get_text()]
    share = "\n45 % in the window" if window else ""
    assert {f"head {head}{share}" for head in (1, 3, 4)} <= set(words)
    assert {"Title", "Caption"} <= set(words)
    assert ("foveal" in words, "all tokens" in words) == (bool(window), not window)


def test_missing_matplotlib_names_the_extra_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.cm", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        check_drawing()


def test_png_encoding_is_lossless():
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(picture)))), picture)
    assert Image.open(io.BytesIO(encode(picture, "JPEG"))).format == "JPEG"
