import pytest

from foveal.errors import FovealError
from foveal.report.page import page, write_page


def test_a_page_escapes_its_title_and_lead():
    text = page("a < b", "x & y", [])
    assert "<title>a &lt; b</title>" in text
    assert "x &amp; y" in text


def test_writing_makes_the_folder_and_leaves_one_file(tmp_path):
    path = write_page(tmp_path / "new" / "report.html", "text é")
    assert path.read_text(encoding="utf-8") == "text é"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_an_interrupted_write_leaves_the_old_page_and_no_part(tmp_path, monkeypatch):
    path = write_page(tmp_path / "report.html", "old")

    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_page(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.html", "old")]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FovealError, match="could not be written"):
        write_page(tmp_path / "file" / "report.html", "text")
