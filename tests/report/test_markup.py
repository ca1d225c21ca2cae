from foveal.report.markup import Html, data_uri, el, join

NASTY = """<script>alert("x")</script> & 'y'.png"""


def test_plain_text_is_read_back_as_it_was_and_makes_no_element(read_html):
    reader = read_html(el("p", NASTY))
    assert [tag for tag, _ in reader.elements] == ["p"]
    assert reader.text == NASTY


def test_an_attribute_cannot_break_out_of_its_quotes(read_html):
    reader = read_html(el("img", alt='" onerror="alert(1)', src="a"))
    assert reader.elements == [("img", {"alt": '" onerror="alert(1)', "src": "a"})]


def test_markup_is_kept_and_nests():
    assert el("p", el("b", "1 < 2"), " and ", ["so", None, " on"]) == "<p><b>1 &lt; 2</b> and so on</p>"


def test_what_el_makes_is_markup_and_what_join_takes_is_escaped():
    assert isinstance(el("p"), Html)
    assert join(["<", el("br")]) == "&lt;<br>"


def test_attribute_names_and_switches():
    assert el("td", class_="a", aria_label="b", hidden=True, title=None, open=False) == (
        '<td class="a" aria-label="b" hidden></td>'
    )


def test_data_uri_of_known_bytes():
    assert data_uri(b"foveal") == "data:image/png;base64,Zm92ZWFs"
