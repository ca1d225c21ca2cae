"""A page for people: sections in order, one file that needs nothing beside it, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foveal.files import atomic_file, make_folder
from foveal.report.markup import Child, Html, el, join
from foveal.report.style import STYLE

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
    """A part of the page under a heading."""
    return el("section", el("h2", title), content)


def page(title: str, lead: str, content: Iterable[Child]) -> str:
    """A whole HTML document: title, one leading paragraph, then the content."""
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
    """Write the text beside `path` first and move it there when it is complete.

    Raises:
        FovealError: the file cannot be written. Whatever stood at `path` is as before.
    """
    make_folder(path.parent)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
