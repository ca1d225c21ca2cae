"""The light figures, by what they draw: colours of known values, marks at known pixels, labels and bars."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from PIL import Image

from foveal.explain.attention import AttentionMaps
from foveal.explain.attention_depth import BlockProfile
from foveal.explain.dynamic_mixer import BranchEnergy, DynamicKernels, ReducedAttention
from foveal.explain.figures.attention_depth import depth_figure
from foveal.explain.figures.attention_of_query import query_figure
from foveal.explain.figures.dynamic_mixer import energy_figure, kernels_figure, reduced_attention_figure
from foveal.explain.figures.light import Canvas, logarithmic, percent
from foveal.wording import TIMES

PHOTO = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)


def maps(heads: int = 2, query: tuple[int, int] = (2, 3), window: int = 3) -> AttentionMaps:
    draw = np.random.default_rng(1)
    size, pool = (4, 6), (2, 3) if window else (4, 6)
    local = draw.random((heads, window, window)).astype(np.float32)
    pooled = draw.random((heads, *pool)).astype(np.float32)
    total = (local.sum((1, 2)) + pooled.sum((1, 2)))[:, None, None]
    similar = draw.normal(size=(heads, *size)).astype(np.float32)
    added = draw.normal(size=(heads, window, window)).astype(np.float32)
    return AttentionMaps(query, similar, similar, local / total, pooled / total, added, 2, 0, 16, (64, 96))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def texts(figure: Figure) -> list[str]:
    """All words of a figure and its parts."""
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")) if text.get_text()]


def shown(figure: Figure) -> list[np.ndarray]:
    """Pixels of all images, axes by axes."""
    return [np.asarray(image.get_array()) for axes in figure.get_axes() for image in axes.get_images()]


def canvas(size=(2, 3), stride=32) -> Canvas:
    return Canvas(PHOTO, size, stride, (64, 96))


def test_a_map_colours_the_pixels_of_each_token_and_leaves_the_photograph_where_it_is_nan():
    axes = Figure().subplots()
    canvas().heat(axes, np.array([[0.0, 1.0, np.nan], [1.0, 0.0, np.nan]]), Normalize(0, 1))
    pixels = np.asarray(axes.get_images()[0].get_array()).astype(float)
    light = pixels @ [0.299, 0.587, 0.114]
    assert pixels.shape == (64, 96, 3)
    assert light[:16, :16].max() < light[16:, :16].min()  # rows 0-15 and 16-63; columns 0-15, 16-47, 48-95
    assert light[16:, 16:48].max() < light[:16, 16:48].min()
    assert np.ptp(pixels[:, 48:], axis=2).max() == 0  # grey


def test_the_window_is_cut_by_the_border_and_lies_on_its_tokens():
    whole = Canvas(PHOTO, (4, 6), 16, (64, 96))
    assert whole.box((2, 3), 3) == (24, 8, 72, 64)  # columns 2-4, rows 1-3: the last row reaches to the end
    assert whole.box((0, 0), 3) == (0, 0, 24, 24)
    assert whole.box((2, 3), 1) == (40, 24, 56, 40)


def test_a_query_has_a_column_for_each_head_and_a_row_for_each_part():
    figure = query_figure(PHOTO, maps(heads=3), "Title", "Caption", positional=True)
    words = texts(figure)
    assert [word for word in words if word.startswith("head")] == ["head 1", "head 2", "head 3"]
    assert {"foveal\n(enlarged)", "peripheral", "mixed", "positional\n(enlarged)"} <= set(words)
    assert {"Title", "Caption", "attention per token (%)", "added weight"} <= set(words)
    assert len(shown(figure)) == 1 + 3 * 3 + 3 * 9
    for head in range(3):
        share = 100 * maps(heads=3).foveal_share[head]
        assert words.count(f"{share:.0f} % in all") >= 1


def test_chosen_heads_alone_are_drawn():
    words = texts(query_figure(PHOTO, maps(heads=4), "Title", "Caption", heads=[3, 1]))
    assert [word for word in words if word.startswith("head")] == ["head 4", "head 2"]
    many = texts(query_figure(PHOTO, maps(heads=16), "Title", "Caption"))
    assert "head 8" in many
    assert "head 9" not in many


def test_the_weights_of_a_small_window_are_written_into_its_cells():
    example = maps(heads=1)
    words = texts(query_figure(PHOTO, example, "Title", "Caption"))
    for value in 100 * example.window_weights.ravel():
        assert (f"{value:.0f}" if value >= 9.95 else f"{value:.1f}") in words


@pytest.mark.parametrize("query", [(0, 0), (3, 5)])
def test_a_query_in_a_corner_can_be_drawn(query):
    example = maps(query=query)
    example.window_weights[:, 0 if query[0] == 0 else 2] = 0
    assert png(query_figure(PHOTO, example, "Title", "Caption", positional=True))[:4] == b"\x89PNG"


def test_a_block_without_a_window_has_one_row():
    words = texts(query_figure(PHOTO, maps(window=0), "Title", "Caption", positional=True))
    assert "all tokens" in words
    assert not {"foveal\n(enlarged)", "peripheral", "positional\n(enlarged)"} & set(words)


def block(stage: int, number: int, window: int = 3, share: float = 0.25) -> BlockProfile:
    arrays = (np.array(values, np.float32) for values in ([share, share + 0.1], [1, 2], [0.5, 0.7], [30, 50]))
    return BlockProfile(stage, number, window, 9, *arrays)


def test_the_depth_figure_shows_means_over_heads_and_every_head():
    profile = (block(0, 0), block(1, 0), block(1, 1, share=0.5), block(3, 0, window=0, share=0))
    figure = depth_figure(profile, "Title", "Caption")
    share, entropy, distance = figure.get_axes()
    lines = [line.get_xydata() for line in share.get_lines() if line.get_markersize() == 4.5]
    np.testing.assert_allclose(np.concatenate(lines), [[1, 30], [2, 30], [3, 55]], rtol=1e-6)
    lines = [line.get_xydata() for line in distance.get_lines() if line.get_markersize() == 4.5]
    np.testing.assert_allclose(np.concatenate(lines)[:, 1], 40)
    dots = [line.get_ydata() for line in entropy.get_lines() if line.get_markersize() == 2.6]
    np.testing.assert_allclose(np.concatenate(dots), [50, 70] * 4, rtol=1e-6)
    assert "no window" in texts(figure)
    boundaries = [line.get_xdata()[0] for line in entropy.get_lines() if line.get_linestyle() == "--"]
    assert boundaries == [1.5, 3.5]


def test_kernels_share_one_scale_around_zero():
    draw = np.random.default_rng(0)
    weights = draw.random((2, 24, 7, 7)).astype(np.float32)
    kernels = DynamicKernels(draw.normal(size=(24, 7, 7)), draw.normal(size=24), weights, weights[..., 0, 0], 1, 0)
    figure = kernels_figure(kernels, "Title", "Caption", channels=[0, 5, 23])
    images = [image for axes in figure.get_axes() for image in axes.get_images()]
    assert len(images) == 3 * 3
    most = abs(kernels.kernels[[0, 5, 23]]).max()
    assert {image.get_clim() for image in images[:3]} == {(-most, most)}
    assert {image.get_clim() for image in images[3:]} == {(0, 1)}
    np.testing.assert_array_equal(images[1].get_array(), kernels.kernels[5])
    np.testing.assert_array_equal(images[8].get_array(), weights[1, 23])
    assert [word for word in texts(figure) if word in ("1", "6", "24")] == ["1", "6", "24"]
    assert len(kernels_figure(kernels, "Title", "Caption").get_axes()) == 3 * 10 + 2


def test_reduced_attention_and_energies_can_be_drawn():
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 2).reshape(2, 2, 3).astype(np.float32)
    attention = ReducedAttention((1, 2), weights, 0 * weights, 2, 0, 16, 2, (64, 96))
    figure = reduced_attention_figure(PHOTO, attention, "Title", "Caption")
    assert {"query (1, 2)", "head 1", "head 2", f"2{TIMES}3 keys"} <= set(texts(figure))
    assert len(shown(figure)) == 3
    levels = [np.arange(24, dtype=np.float32).reshape(4, 6) * factor for factor in (1, 2, 0)]
    figure = energy_figure(PHOTO, BranchEnergy(*levels, 2, 0, 16, (64, 96)), "Title", "Caption")
    assert {"IDConv", "OSRA", "after STE", "mean square"} <= set(texts(figure))
    assert png(figure)[:4] == b"\x89PNG"


def test_the_same_maps_give_the_same_bytes():
    first, second = (png(query_figure(PHOTO, maps(), "Title", "Caption")) for _ in range(2))
    assert first == second
    changed = replace(maps(), query=(1, 1))
    assert png(query_figure(PHOTO, changed, "Title", "Caption")) != first


def test_the_logarithmic_scale_ends_at_the_largest_value_and_spans_three_decades_at_most():
    scale = logarithmic(np.array([0.0, 1e-9, 0.5, 8.0]))
    assert isinstance(scale, LogNorm)
    assert (scale.vmin, scale.vmax) == pytest.approx((8e-3, 8))
    assert logarithmic(np.full(4, 2.0)).vmin < 2


@pytest.mark.parametrize(("share", "text"), [(37.4, "37 %"), (2.14, "2.1 %"), (0.01, "< 0.1 %"), (0, "0.0 %")])
def test_percentages_are_written_for_people(share, text):
    assert percent(share) == text


def test_lightness_of_the_amounts_rises_and_both_ends_of_signed_values_differ_in_grey():
    from matplotlib import colormaps

    from foveal.explain.figures.light import AMOUNTS, SIGNED

    def light(name, at):
        rgb = (255 * colormaps[name](at)[:, :3]).astype(np.uint8)
        return np.asarray(Image.fromarray(rgb[None]).convert("L"), float)[0]

    assert (np.diff(light(AMOUNTS, np.linspace(0, 1, 32))) > 0).all()
    low, high = light(SIGNED, np.array([0.0, 1.0]))
    assert low > high + 20
