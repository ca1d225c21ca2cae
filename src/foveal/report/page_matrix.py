"""Confusion matrices and tables of classes on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveal.report.chart_confusion import most_confused
from foveal.report.page import Child, Html, bar, el

MOST_CLASSES = 20  # of a matrix; of more classes those with the most mistakes
MOST_OPEN = 12  # rows of a table of classes that are not folded
MOST_ROWS = 1000  # of a table of classes
LEAST_SHARE = 0.05  # percent; smaller shares are shown as below it
OTHERS = "others"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix.

    Attributes:
        counts: (R, C), by what is true (row) and what was predicted (column).
        rows, columns: their names; a name that is both marks a right answer.
        caption: what is counted.
        shares: show percent of each row instead of counts.
        impossible: a name whose right answer cannot be counted, such as the background.
    """

    counts: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    caption: str
    shares: bool = False
    impossible: str | None = None

    @classmethod
    def of_classes(cls, counts: np.ndarray, classes: Sequence[str], caption: str, shares: bool = False) -> Matrix:
        """Return the matrix of K classes from (K, K) counts: all of them, or those with the most mistakes and all
        others as one column."""
        if len(classes) <= MOST_CLASSES:
            return cls(counts, classes, classes, caption, shares)
        chosen = most_confused(counts, MOST_CLASSES)
        part, names = counts[np.ix_(chosen, chosen)], [classes[at] for at in chosen]
        rest = counts[chosen].sum(1) - part.sum(1)
        caption += f"; the {len(chosen)} of {len(classes):,} classes with the most mistakes"
        return cls(np.concatenate([part, rest[:, None]], 1), names, [*names, OTHERS], caption, shares)

    @classmethod
    def with_background(cls, counts: np.ndarray, classes: Sequence[str], background: str, caption: str) -> Matrix:
        """Return the matrix of K classes and the background from (K + 1, K + 1) counts, the background last."""
        if len(classes) > MOST_CLASSES:
            chosen = [at for at in most_confused(counts, MOST_CLASSES + 1) if at != len(classes)][:MOST_CLASSES]
            caption += f"; the {len(chosen)} of {len(classes):,} classes with the most mistakes"
        else:
            chosen = [*range(len(classes))]
        kept = [*chosen, len(classes)]
        names = [*(classes[at] for at in chosen), background]
        return cls(counts[np.ix_(kept, kept)], names, names, caption, impossible=background)

    def html(self) -> Html:
        """Return the table: right answers are shaded by their share of the row, and all others stand out."""
        head = el(
            "thead",
            el("tr", el("td"), el("th", "predicted", colspan=len(self.columns), scope="colgroup")),
            el("tr", el("th", "true", scope="col"), [_upright(name) for name in self.columns]),
        )
        rows = [
            el("tr", el("th", name, scope="row"), [self._cell(row, column) for column in range(len(self.columns))])
            for row, name in enumerate(self.rows)
        ]
        caption = el("caption", self.caption, class_="quiet")
        return el("div", el("table", caption, head, el("tbody", rows), class_="confusion"), class_="scroll")

    def _cell(self, row: int, column: int) -> Html:
        count, total = int(self.counts[row, column]), max(int(self.counts[row].sum()), 1)
        hit = self.rows[row] == self.columns[column]
        if hit and self.rows[row] == self.impossible:
            return el("td", "", class_="zero")
        if not count:
            return el("td", el("span", "0", class_="zero"))
        share = count / total
        least = 0.12 if hit else 0.25 * min(1, 8 * share) if self.shares else 0.25  # few pixels are always wrong
        strength = least + 0.3 * share
        text = _percent(100 * share) if self.shares else f"{count:,}"
        return el("td", text, class_="hit" if hit else "miss", style=f"--strength: {strength:.2f}")


def _percent(share: float) -> str:
    return f"{share:.1f}" if share >= LEAST_SHARE else f"< {2 * LEAST_SHARE:g}"


def _upright(name: str) -> Html:
    """Return the heading of a column; a long name stands on its end."""
    return el("th", el("span", name), scope="col", class_="long" if len(name) > 3 else None)


def class_table(
    caption: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str], float | None, str]]
) -> Child:
    """Return a table of classes, the best first, whose last column is a bar; all but the worst ones folded if there are
    many.

    Args:
        caption: what it shows.
        header: names of the columns: the class, the further cells, and the figure.
        rows: of each class its name, further cells, the figure in percent (None if it has none), and how it is shown.
    """
    ordered = sorted(rows, key=lambda row: (row[2] is None, -(row[2] or 0)))
    known = [row for row in ordered if row[2] is not None]
    if len(ordered) <= MOST_OPEN:
        return _class_rows(caption, header, ordered)
    few = _class_rows(f"{caption}: the {MOST_OPEN} lowest of {len(ordered):,}", header, known[-MOST_OPEN:])
    cut = f", of which the first {MOST_ROWS:,} are shown" if len(ordered) > MOST_ROWS else ""
    whole = _class_rows(f"{caption}{cut}", header, ordered[:MOST_ROWS])
    return few, el("details", el("summary", f"All {len(ordered):,} classes"), whole)


def _class_rows(
    caption: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str], float | None, str]]
) -> Html:
    head = el("thead", el("tr", [el("th", name, scope="col") for name in header]))
    body = [
        el("tr", el("th", name, scope="row"), [el("td", cell) for cell in cells], el("td", bar("", share, text)))
        for name, cells, share, text in rows
    ]
    return el("div", el("table", el("caption", caption), head, el("tbody", body), class_="classes"), class_="scroll")


def side_by_side(*parts: Child) -> Html:
    """Return parts beside each other where the page is wide enough, and below each other elsewhere."""
    return el("div", [el("div", part) for part in parts], class_="beside")
