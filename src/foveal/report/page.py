"""HTML pages: elements that escape their text, the components of a report, and the page itself in one file.

Text becomes markup only through ``el``, which escapes every plain ``str``.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from foveal.files import atomic_file, make_folder
from foveal.report.page_style import STYLE
from foveal.wording import percent


class Html(str):
    """Markup that can be placed in a page unchanged."""

    __slots__ = ()


Child: TypeAlias = "Html | str | Iterable[Child] | None"

VOID = frozenset({"img", "meta", "br", "hr", "link"})  # elements without an end tag


def el(tag: str, *children: Child, **attributes: object) -> Html:
    """Return one element. Plain strings are escaped, ``Html`` is kept, iterables are flattened, None is skipped.

    Attribute names lose a trailing underscore (``class_``), and inner underscores become dashes (``aria_label``). An
    attribute whose value is None or False is omitted; True gives an attribute without a value.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    return Html(opening if tag in VOID else f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Html:
    """Return the children one after another, escaped as in ``el``."""
    return Html("".join(_child(child) for child in children))


def data_uri(content: bytes, mime: str = "image/png") -> str:
    """Return the bytes as a ``data:`` URI, which needs no request."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return html.escape(child) if isinstance(child, str) else join(child)


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file, with its alternative text and caption."""

    content: bytes
    alt: str
    caption: Child = None
    mime: str = "image/png"

    def html(self, **attributes: object) -> Html:
        return el("img", src=data_uri(self.content, self.mime), alt=self.alt, **attributes)


def headline(numbers: Mapping[str, str]) -> Html:
    """Return the few numbers that matter most: name -> value with its unit."""
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in numbers.items()], class_="headline")


def facts(pairs: Mapping[str, str]) -> Html:
    """Return names and values, one pair per line."""
    return el("dl", [[el("dt", name), el("dd", value)] for name, value in pairs.items()], class_="facts")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """Return a table whose first column names the row."""
    head = el("thead", el("tr", [el("th", name, scope="col") for name in header]))
    body = [el("tr", el("th", row[0], scope="row"), [el("td", cell) for cell in row[1:]]) for row in rows]
    return el("div", el("table", el("caption", caption), head, el("tbody", body)), class_="scroll")


def gallery(pictures: Iterable[Picture], class_: str = "gallery") -> Html:
    """Return small pictures side by side, each with its caption."""
    figures = [el("figure", picture.html(loading="lazy"), el("figcaption", picture.caption)) for picture in pictures]
    return el("div", figures, class_=class_)


def probability_bar(name: str, probability: float) -> Html:
    """Return a class name with its probability, as a bar and as a number."""
    return bar(name, 100 * probability, percent(100 * probability))


def bar(name: str, share: float | None, text: str) -> Html:
    """Return a name and a text over a bar whose length is ``share``, in percent."""
    words = el("span", name), el("span", text, class_="number")
    return el("div", words, class_="bar", style=f"--share: {share or 0:.1f}%")


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """Return names beside swatches, from pairs (colour as CSS writes it, name)."""
    items = [el("span", el("i", style=f"--swatch: {colour}"), name) for colour, name in entries]
    return el("p", items, class_="swatches")


def commands(lines: Iterable[tuple[str, str]]) -> Html:
    """Return commands to run next, from pairs (purpose, command)."""
    return el("dl", [[el("dt", why), el("dd", command_line(line))] for why, line in lines], class_="commands")


def command_line(line: str) -> Html:
    """Return a command to copy, each word in a box of its own: browsers would break lines after an option's dashes."""
    words = [[" " if number else None, el("span", word)] for number, word in enumerate(line.split(" "))]
    return el("pre", el("code", words))


# A retina from the front: the fovea in the middle, the periphery around it.
EMBLEM = el(
    "svg",
    [
        el("circle", cx=24, cy=24, r=r, fill="none", stroke="currentColor", stroke_width=w)
        for r, w in ((21, 1), (14, 2))
    ],
    el("circle", cx=24, cy=24, r=7, fill="currentColor"),
    viewBox="0 0 48 48",
    aria_hidden="true",
)


def section(title: str, *content: Child) -> Html:
    """Return a section of the page with a heading."""
    return el("section", el("h2", title), content)


def page(title: str, lead: str, content: Iterable[Child]) -> str:
    """Return a complete HTML document: title, lead paragraph, content."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Html(STYLE)),
    )
    body = el("body", el("header", EMBLEM, el("h1", title)), el("main", el("p", lead, class_="lead"), content))
    return join((Html("<!doctype html>\n"), el("html", head, body, lang="en"), "\n"))


def write_page(path: Path, text: str) -> Path:
    """Write ``text`` to a temporary file next to ``path``, then move it into place.

    Raises:
        FovealError: the file cannot be written. An existing file at ``path`` is unchanged.
    """
    make_folder(path.parent)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
