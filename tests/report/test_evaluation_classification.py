"""The files of an evaluation: their contents, and that they are written completely or not at all."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.report import evaluation_classification
from foveal.report.evaluation import check_results_folder
from foveal.report.evaluation_classification import draw_corruptions, draw_sizes, write_results
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.evaluate import Score
from foveal.tasks.classification.imagenet.corruptions import ALEXNET, CorruptionErrors
from foveal.tasks.classification.names import MODES

pytest.importorskip("matplotlib")

CLASSES = [str(number) for number in range(10)]
SCORE = Score(images=50, top1=80.0, top_k=95.0, loss=0.9, images_per_second=10.0, per_class=(5,) * 10)
SIZES = [
    Cell("val", mode, (side, side), None, replace(SCORE, top1=80.0 + side / 64 + len(mode)), CLASSES, paper)
    for side, paper in ((256, None), (224, 83.0))
    for mode in ("normal", "linear")
]
CORRUPTED = Cell(
    "c", None, (224, 224), None, SCORE, CLASSES, 50.0, CorruptionErrors(dict.fromkeys(ALEXNET, (40.0,) * 5))
)


def document(cells):
    return {"model": "net", "results": [cell.document() for cell in cells]}


def test_all_results_are_written(tmp_path):
    cells = [*SIZES, CORRUPTED]
    write_results(tmp_path / "new" / "folder", document(cells), cells)
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "results.json", "sizes.png", "corruptions.png",
    }  # fmt: skip
    assert json.loads((tmp_path / "new" / "folder" / "results.json").read_text()) == document(cells)
    for picture in (tmp_path / "new" / "folder").glob("*.png"):
        Image.open(picture).verify()


def test_a_single_size_has_no_plot(tmp_path):
    write_results(tmp_path, document(SIZES[:2]), SIZES[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_lines_and_rings_match_the_results():
    (axes,) = draw_sizes(SIZES, "net").axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["normal"] == [[224.0, 89.5], [256.0, 90.0]]
    assert drawn["linear"] == [[224.0, 89.5], [256.0, 90.0]]
    assert [[224.0, 83.0]] in drawn.values()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["normal", "linear", "published"]


def test_coinciding_lines_are_distinguishable():
    cells = [Cell("val", mode, (side, side), None, SCORE, CLASSES) for side in (224, 256) for mode in MODES]
    (axes,) = draw_sizes(cells, "net").axes
    lines = axes.lines
    assert len({line.get_marker() for line in lines}) == len(lines) == 4
    assert len({(line.get_linestyle(), line.get_linewidth()) for line in lines}) == 4
    widths = [line.get_linewidth() for line in sorted(lines, key=lambda line: line.zorder)]
    assert widths == sorted(widths, reverse=True)  # lines on top leave the edges of those below visible


def test_bars_are_relative_to_alexnet():
    (axes,) = draw_corruptions([CORRUPTED], "net").axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([40 / error for error in ALEXNET.values()])
    assert axes.get_yticklabels()[0].get_text() == "gaussian noise   45.1"
    mean = sum(40 / error for error in ALEXNET.values()) / 15
    assert f"mCE {mean:.1f} (published: 50.0)" in axes.get_xlabel()


def test_no_partial_results_are_left(tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text("older")

    def fails(figure, path, form):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_classification, "save", fails)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path, document(SIZES), SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "older"


@pytest.mark.parametrize("full", ["results.json", "sizes.png"])
def test_a_full_disk_raises_a_one_line_error_and_keeps_existing_files(tmp_path, monkeypatch, full):
    """The file is redirected to /dev/full."""
    (tmp_path / "results.json").write_text("older")
    (tmp_path / "sizes.png").write_text("older")
    make = tempfile.mkdtemp

    def filled(**words):
        part = make(**words)
        Path(part, full).symlink_to("/dev/full")
        return part

    monkeypatch.setattr(tempfile, "mkdtemp", filled)
    with pytest.raises(FovealError, match=r"could not be written \(No space left on device\): choose another --out"):
        write_results(tmp_path, document(SIZES), SIZES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "sizes.png"]
    assert (tmp_path / "results.json").read_text() == "older"


def test_plots_of_an_older_evaluation_are_removed(tmp_path):
    write_results(tmp_path, document([*SIZES, CORRUPTED]), [*SIZES, CORRUPTED])
    write_results(tmp_path, document(SIZES[:2]), SIZES[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_an_invalid_output_folder_is_rejected_in_advance(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FovealError, match=r"file is a file: pass --out with a folder"):
        check_results_folder(tmp_path / "file")
    check_results_folder(tmp_path / "not" / "yet")
    check_results_folder(Path("relative"))
    assert not (tmp_path / "not").exists()
