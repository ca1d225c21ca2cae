"""What a report is made of: numbers, tables, pictures, commands; functions from plain values to markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foveal.report.markup import Child, Html, data_uri, el


@dataclass(frozen=True)
class Picture:
    """An image file's bytes with the words that go with it."""

    content: bytes
    alt: str
    caption: Child = None
    mime: str = "image/png"

    def html(self, **attributes: object) -> Html:
        return el("img", src=data_uri(self.content, self.mime), alt=self.alt, **attributes)


def headline(numbers: Mapping[str, str]) -> Html:
    """The few numbers that a reader came for, name -> value with its unit."""
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in numbers.items()], class_="headline")


def facts(pairs: Mapping[str, str]) -> Html:
    """Name and value, a line each."""
    return el("dl", [[el("dt", name), el("dd", value)] for name, value in pairs.items()], class_="facts")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """A table whose first column names the row."""
    head = el("thead", el("tr", [el("th", name, scope="col") for name in header]))
    body = [el("tr", el("th", row[0], scope="row"), [el("td", cell) for cell in row[1:]]) for row in rows]
    return el("div", el("table", el("caption", caption), head, el("tbody", body)), class_="scroll")


def confusion_table(counts: np.ndarray, classes: Sequence[str]) -> Html:
    """True class by predicted class. (classes, classes) integers, row = true class.

    The diagonal is shaded by the share of the class that was found; any other cell that is not 0 stands out.
    """
    head = el(
        "thead",
        el("tr", el("td"), el("th", "predicted", colspan=len(classes), scope="colgroup")),
        el("tr", el("th", "true", scope="col"), [el("th", name, scope="col") for name in classes]),
    )
    rows = []
    for true, name in enumerate(classes):
        total = max(int(counts[true].sum()), 1)
        cells = [_confusion_cell(int(count), total, hit=true == column) for column, count in enumerate(counts[true])]
        rows.append(el("tr", el("th", name, scope="row"), cells))
    caption = el("caption", "Images of each true class (row) by predicted class (column)", class_="quiet")
    return el("div", el("table", caption, head, el("tbody", rows), class_="confusion"), class_="scroll")


def _confusion_cell(count: int, total: int, hit: bool) -> Html:
    if not count:
        return el("td", el("span", "0", class_="zero"))
    strength = 0.12 + 0.3 * count / total if hit else 0.25 + 0.3 * count / total
    return el("td", str(count), class_="hit" if hit else "miss", style=f"--strength: {strength:.2f}")


def gallery(pictures: Iterable[Picture], class_: str = "gallery") -> Html:
    """Small pictures side by side, each with its caption."""
    figures = [el("figure", picture.html(loading="lazy"), el("figcaption", picture.caption)) for picture in pictures]
    return el("div", figures, class_=class_)


def probability_bar(name: str, probability: float) -> Html:
    """A class name with its probability, as a bar and in words."""
    percent = f"{100 * probability:.1f}"
    words = el("span", name), el("span", f"{percent} %", class_="number")
    return el("div", words, class_="bar", style=f"--share: {percent}%")


def commands(lines: Iterable[tuple[str, str]]) -> Html:
    """What one can type next: (why, the command)."""
    return el("dl", [[el("dt", why), el("dd", el("pre", _command(line)))] for why, line in lines], class_="commands")


def _command(line: str) -> Html:
    """The words as boxes: a browser would break a line after the dashes of an option."""
    return el("code", [[" " if number else None, el("span", word)] for number, word in enumerate(line.split(" "))])
