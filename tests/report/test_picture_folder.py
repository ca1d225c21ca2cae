"""A folder of pictures holds those of the last run, and what other programs put there."""

import json
import os

import pytest
from PIL import Image

from foveal.report.picture_folder import NOTE, picture_folder, written_before
from foveal.runtime.reading import Picture

ENDINGS = (".png", "_labels.png")


def fill(folder, *stems, inputs=(), extra=None, stop=False):
    """Run once: write two files for each stem, and return the paths that they have then."""
    with picture_folder(folder, inputs, ENDINGS) as pictures:
        placed = []
        for stem in stems:
            final, parts = pictures.place(Picture(f"{stem}.jpg", stem, lambda: Image.new("RGB", (1, 1))))
            for part in parts:
                part.write_text(f"{stem} {len(placed)}")
            placed += final
        if extra:
            (pictures.stage / extra).write_text("[]")
        if stop:
            raise KeyboardInterrupt
    return placed


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != NOTE)


def test_outputs_get_the_stems_of_their_pictures(tmp_path):
    assert fill(tmp_path / "out", "a", "a") == [
        tmp_path / "out" / name for name in ("a.png", "a_labels.png", "a_2.png", "a_2_labels.png")
    ]
    assert names(tmp_path / "out") == ["a.png", "a_2.png", "a_2_labels.png", "a_labels.png"]


def test_a_second_run_leaves_no_picture_of_the_first(tmp_path):
    fill(tmp_path, "a", "b", extra="all.json")
    fill(tmp_path, "b", "c")
    assert names(tmp_path) == ["b.png", "b_labels.png", "c.png", "c_labels.png"]
    fill(tmp_path, "a")
    assert names(tmp_path) == ["a.png", "a_labels.png"]


def test_files_that_no_run_wrote_stay(tmp_path):
    (tmp_path / "mine.png").write_text("mine")
    fill(tmp_path, "a", "b")
    (tmp_path / "mine_2.png").write_text("mine")
    fill(tmp_path, "c")
    assert names(tmp_path) == ["c.png", "c_labels.png", "mine.png", "mine_2.png"]


def test_a_picture_that_was_changed_or_replaced_stays(tmp_path):
    fill(tmp_path, "a", "b", "c")
    (tmp_path / "a.png").write_text("drawn over by a person")
    os.utime(tmp_path / "b.png", ns=(0, 0))
    (tmp_path / "c.png").unlink()
    (tmp_path / "c.png").mkdir()
    fill(tmp_path, "d")
    assert names(tmp_path) == ["a.png", "b.png", "c.png", "d.png", "d_labels.png"]


def test_an_earlier_picture_that_is_an_input_now_stays(tmp_path):
    fill(tmp_path, "a")
    fill(tmp_path, "b", inputs=[str(tmp_path / "a.png")])
    assert "a.png" in names(tmp_path)
    assert "a_labels.png" not in names(tmp_path)


def test_a_run_that_fails_changes_nothing(tmp_path):
    fill(tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, "b", stop=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"written": 3}', "\x00"])
def test_a_note_that_is_damaged_names_nothing(tmp_path, note):
    (tmp_path / NOTE).write_text(note)
    assert written_before(tmp_path) == {}


def test_a_note_reaches_no_other_folder(tmp_path):
    out, other = tmp_path / "out", tmp_path / "precious.png"
    out.mkdir()
    other.write_text("precious")
    found = other.stat()
    stamps = {name: [found.st_size, found.st_mtime_ns] for name in ("../precious.png", str(other), "..", "")}
    (out / NOTE).write_text(json.dumps({"written": stamps}))
    fill(out, "a")
    assert other.read_text() == "precious"
