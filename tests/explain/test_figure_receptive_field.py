"""The figure of receptive fields: what it shows, and that it is written reproducibly."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.explain import ReceptiveFields
from foveal.explain.field_measures import area_ratios
from foveal.explain.figures.receptive_field import receptive_field_figure
from foveal.plotting import save_reproducibly

LAYERS = ("stage 1", "stage 2")


def fields(scale: float = 1.0, size: tuple[int, int] = (32, 48), layers: tuple[str, ...] = LAYERS) -> ReceptiveFields:
    rows, columns = (np.arange(side) - side // 2 for side in size)
    squared = rows[:, None] ** 2 + columns**2
    contributions = np.stack([scale * np.exp(-squared / (2 * s**2)) for s in range(2, 2 + len(layers))])
    return ReceptiveFields(layers, contributions.astype(np.float32), ((8, 12),) * len(layers), 5)


def panels(figure) -> list:
    return [axes.images[0] for axes in figure.axes if axes.images]


def words(figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def test_every_network_and_stage_has_a_panel_on_one_scale():
    figure = receptive_field_figure([("A", fields()), ("B", fields(1e-5))])
    shown = panels(figure)
    assert len(shown) == 4
    assert {(panel.norm.vmin, panel.norm.vmax) for panel in shown} == {(-4, 0)}
    np.testing.assert_allclose(shown[0].get_array(), shown[2].get_array(), atol=1e-5)
    assert shown[0].get_array().max() == 0


def test_names_ratios_and_settings_are_written():
    figure = receptive_field_figure([("TransNeXt-T", one := fields())], "Random weights, seed 0.")
    text = words(figure)
    for part in (
        "TransNeXt-T",
        "Stage 1",
        "Stage 2",
        "mean of 5 images",
        "32 \N{MULTIPLICATION SIGN} 48 input",
        "Random weights",
    ):
        assert part in text
    first = 100 * area_ratios(one.contributions[0])
    assert f"{first[0]:.2f} / {first[1]:.1f}" in text


def test_nothing_is_written_outside_the_figure_or_over_something_else():
    figure = receptive_field_figure(
        [(f"Network {i}", fields(layers=("a", "b", "c", "d"))) for i in range(3)], "x " * 200
    )
    figure.canvas.draw()
    whole = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts] + [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_the_lightness_of_the_colours_rises_with_the_contribution():
    figure = receptive_field_figure([("A", fields())])
    colours = panels(figure)[0].cmap(np.linspace(0, 1, 32), bytes=True)[None, :, :3]
    lightness = np.asarray(Image.fromarray(colours).convert("L"), dtype=float)[0]
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes_in_another_process(form, tmp_path):
    save_reproducibly(receptive_field_figure([("A", fields())], "A note."), tmp_path / f"here.{form}")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "import test_figure_receptive_field as t\n"
        "t.save_reproducibly(t.receptive_field_figure([('A', t.fields())], 'A note.'), Path(sys.argv[2]))"
    )
    there = tmp_path / f"there.{form}"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(there)], check=True)
    assert there.read_bytes() == (tmp_path / f"here.{form}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"here.{form}", f"there.{form}"]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(FovealError, match=r"must end in .png, .svg or .pdf"):
        save_reproducibly(receptive_field_figure([("A", fields())]), tmp_path / "field.jpg")


def test_rows_that_do_not_fit_together_are_refused():
    with pytest.raises(FovealError, match="at least one network"):
        receptive_field_figure([])
    with pytest.raises(FovealError, match="B has the layers stage 1"):
        receptive_field_figure([("A", fields()), ("B", fields(layers=("stage 1",)))])
    with pytest.raises(FovealError, match="another aspect ratio"):
        receptive_field_figure([("A", fields()), ("B", fields(size=(48, 48)))])
    assert len(panels(receptive_field_figure([("A", fields()), ("B", fields(size=(64, 96)))]))) == 4
