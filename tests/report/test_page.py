import pytest

from foveal.errors import FovealError
from foveal.report.page import Html, data_uri, el, join, page, write_page

NASTY = """<script>alert("x")</script> & 'y'.png"""


def test_plain_text_is_escaped(read_html):
    reader = read_html(el("p", NASTY))
    assert [tag for tag, _ in reader.elements] == ["p"]
    assert reader.text == NASTY


def test_attribute_values_are_escaped(read_html):
    reader = read_html(el("img", alt='" onerror="alert(1)', src="a"))
    assert reader.elements == [("img", {"alt": '" onerror="alert(1)', "src": "a"})]


def test_markup_is_kept_when_nested():
    assert el("p", el("b", "1 < 2"), " and ", ["so", None, " on"]) == "<p><b>1 &lt; 2</b> and so on</p>"


def test_el_returns_markup_and_join_escapes_text():
    assert isinstance(el("p"), Html)
    assert join(["<", el("br")]) == "&lt;<br>"


def test_attribute_names_and_boolean_attributes():
    assert el("td", class_="a", aria_label="b", hidden=True, title=None, open=False) == (
        '<td class="a" aria-label="b" hidden></td>'
    )


def test_data_uri_of_known_bytes():
    assert data_uri(b"foveal") == "data:image/png;base64,Zm92ZWFs"


def test_a_page_escapes_its_title_and_lead():
    text = page("a < b", "x & y", [])
    assert "<title>a &lt; b</title>" in text
    assert "x &amp; y" in text


def test_writing_creates_the_folder_and_a_single_file(tmp_path):
    path = write_page(tmp_path / "new" / "report.html", "text é")
    assert path.read_text(encoding="utf-8") == "text é"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_an_interrupted_write_keeps_the_old_page_and_no_partial_file(tmp_path, monkeypatch):
    path = write_page(tmp_path / "report.html", "old")

    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_page(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.html", "old")]


def test_an_unwritable_folder_raises_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FovealError, match="could not be written"):
        write_page(tmp_path / "file" / "report.html", "text")
