"""A table as text of 80 columns, as Markdown and as CSV, with what was counted or measured here beside its figures."""

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .columns import Column
from .comparison import Comparison, Counted, compare
from .measured import NOTHING, Measured
from .table import Figure, PaperTable

WIDTH = 80
_GAP = "  "
_OURS, _OTHERS = "* ", "  "


@dataclass(frozen=True)
class _Strip:
    """One column of characters: a heading above cells, one per row of the table."""

    heading: str
    cells: list[str]
    is_text: bool = False

    @property
    def lines(self) -> list[str]:
        """The heading and the cells, all of one width."""
        width = max(map(len, (self.heading, *self.cells)))
        return [line.ljust(width) if self.is_text else line.rjust(width) for line in (self.heading, *self.cells)]


_Group = list[_Strip]
"""Strips that stand together: the figures of a column, their counts, and what was measured."""


def as_text(table: PaperTable, counted: Counted | None = None, measured: Measured = NOTHING) -> str:
    """Return a table with title and notes in lines of at most 80 characters.

    A wide table is cut into blocks that repeat the names of the rows. An asterisk marks the papers' own networks.
    """
    names = _Strip("", [(_OURS if row.is_ours else _OTHERS) + row.name for row in table.rows], is_text=True)
    fixed, groups = [names], []
    for column, group in _groups(table, counted or {}, measured):
        if column.name in table.keys:
            fixed += group
        else:
            groups.append(group)
    blocks = [_block([*fixed, *strips]) for strips in _packed(groups, WIDTH - _width(fixed))]
    return (
        "\n\n".join([f"{table.name}: {table.title}\n{origin(table)}", *blocks, *_foot(table, counted, measured)]) + "\n"
    )


def as_markdown(table: PaperTable, counted: Counted | None = None, measured: Measured = NOTHING) -> str:
    """Return a table in Markdown below a heading, complete; the papers' own networks are bold."""
    strips = [strip for _, group in _groups(table, counted or {}, measured) for strip in group]
    lines = [
        [strip.heading for strip in (_Strip("row", [], True), *strips)],
        ["---", *("---" if strip.is_text else "---:" for strip in strips)],
    ]
    for index, row in enumerate(table.rows):
        cells = [row.name, *(strip.cells[index].strip() for strip in strips)]
        lines.append([f"**{cell}**" if cell and row.is_ours else cell for cell in cells])
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = "\n".join(f"- {note}" for note in (*table.notes, *_said_of_counts(table, counted), *measured.notes))
    parts = [f"## {table.name}", f"{table.title}. {origin(table)}.", body, *([notes] if notes else [])]
    return "\n\n".join(parts) + "\n"


def as_csv(table: PaperTable, counted: Counted | None = None, measured: Measured = NOTHING) -> str:
    """Return a table as CSV with the figures as printed; what was counted or measured are further columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    compared = compare(table, counted or {})
    extra = [column for column in table.columns if any(key[1] == column.name for key in counted or {})]
    added = [f"{column.name}_{what}" for column in extra for what in ("counted", "difference")]
    added += [f"{one.column.name}_{one.name}" for one in measured.figures]
    writer.writerow(["row", "model", "arguments", "peer", "ours", *(column.name for column in table.columns), *added])
    for index, (row, cells) in enumerate(zip(table.rows, compared, strict=True)):
        found = {one.column.name: one for one in cells}
        printed = [row.figures[column.name].printed for column in table.columns]
        counts = [part for column in extra for part in _csv_counts(found.get(column.name))]
        arguments = ", ".join(f"{name}={value!r}" for name, value in row.arguments.items())
        own = [f"{one.values[index]:.6g}" if index in one.values else "" for one in measured.figures]
        named = [row.name, row.model or "", arguments, row.peer or "", int(row.is_ours)]
        writer.writerow([*named, *printed, *counts, *own])
    return out.getvalue()


def origin(table: PaperTable) -> str:
    """Return where a table is from: "TransNeXt, table 1, arXiv:2311.17132v3"."""
    return f"{table.paper}, table {table.number}, {table.source}"


def _groups(table: PaperTable, counted: Counted, measured: Measured) -> Iterator[tuple[Column, _Group]]:
    compared = [{one.column.name: one for one in cells} for cells in compare(table, counted)]
    for column in table.columns:
        group = [_Strip(column.heading, _aligned([row.figures[column.name] for row in table.rows]), column.is_text)]
        counts = [cells.get(column.name) for cells in compared]
        if any(counts):
            group += _count_strips(column, counts)
        yield column, group + _own_strips(table, column, measured)
    for column in measured.added_columns(table):
        yield column, [_Strip(column.heading, [""] * len(table.rows)), *_own_strips(table, column, measured)]


def _own_strips(table: PaperTable, column: Column, measured: Measured) -> _Group:
    rows = range(len(table.rows))
    return [_Strip(one.heading, [one.shown(row) for row in rows]) for one in measured.beside(column)]


def _count_strips(column: Column, counts: Sequence[Comparison | None]) -> _Group:
    """The counts with one decimal more than printed, and by how much those differ that do not agree."""
    decimals = 1 + max(one.printed.decimals or 0 for one in counts if one)
    ours = [f"{one.counted:.{decimals}f}" if one else "" for one in counts]
    apart = [
        f"{one.difference:+.{decimals}f}" if one and one.difference is not None and not one.agrees else ""
        for one in counts
    ]
    return [_Strip("counted", ours), *([_Strip("differs", apart)] if any(apart) else [])]


def _aligned(figures: Sequence[Figure]) -> list[str]:
    """Return figures as printed, with spaces after those that have fewer decimals than others."""
    most = max(figure.decimals or 0 for figure in figures)
    point = len(".") if most else 0
    cells = []
    for figure in figures:
        missing = 0 if figure.decimals is None else most - figure.decimals + (0 if figure.decimals else point)
        cells.append(figure.printed + " " * missing)
    return cells


def _packed(groups: Sequence[_Group], width: int) -> Iterator[list[_Strip]]:
    """Yield as many groups at a time as fit into ``width``, at least one."""
    block: list[_Strip] = []
    for group in groups:
        if block and _width([*block, *group]) > width:
            yield block
            block = []
        block = [*block, *group]
    yield block


def _width(strips: Sequence[_Strip]) -> int:
    return sum(len(strip.lines[0]) + len(_GAP) for strip in strips)


def _block(strips: Sequence[_Strip]) -> str:
    return "\n".join(_GAP.join(line).rstrip() for line in zip(*(strip.lines for strip in strips), strict=True))


def _foot(table: PaperTable, counted: Counted | None, measured: Measured) -> list[str]:
    notes = [*table.notes, *_said_of_counts(table, counted), *measured.notes]
    if any(row.is_ours for row in table.rows):
        notes.insert(0, "* the paper's own network as published.")
    return ["\n".join(line for note in notes for line in textwrap.wrap(note, WIDTH))]


def _said_of_counts(table: PaperTable, counted: Counted | None) -> list[str]:
    """Return a sentence for each reason why counts differ from what is printed."""
    apart: dict[str, list[str]] = {}
    for cells in compare(table, counted or {}):
        for one in cells:
            if one.printed.number is not None and not one.agrees:
                what = (
                    f"{one.column.heading} of {one.row.name}: {one.printed.printed} printed, {one.counted:.3f} counted"
                )
                where = apart.setdefault(one.reason or "no reason is known", [])
                if what not in where:
                    where.append(what)
    return [f"{'; '.join(where)}: {reason}." for reason, where in apart.items()]


def _csv_counts(one: Comparison | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    return f"{one.counted:.6g}", "" if one.difference is None else f"{one.difference:.6g}"


def document(table: PaperTable, counted: Counted | None = None, measured: Measured = NOTHING) -> dict:
    """Return a table in plain types, complete, for JSON."""
    compared = compare(table, counted or {})
    return {
        "name": table.name,
        "title": table.title,
        "paper": table.paper,
        "table": table.number,
        "source": table.source,
        "notes": list(table.notes),
        "columns": [{"name": c.name, "heading": c.heading, "meaning": c.meaning} for c in table.columns],
        "rows": [
            {
                "row": row.name,
                "model": row.model,
                "arguments": dict(row.arguments),
                "peer": row.peer,
                "ours": row.is_ours,
                "values": {name: figure.value for name, figure in row.figures.items()},
                "printed": {name: figure.printed for name, figure in row.figures.items()},
                **({"counted": {one.column.name: _counted(one) for one in cells}} if cells else {}),
                **({"measured": own} if (own := measured.of_row(index)) else {}),
            }
            for index, (row, cells) in enumerate(zip(table.rows, compared, strict=True))
        ],
        **({"measurement": {**measured.facts, "notes": list(measured.notes)}} if measured.figures else {}),
    }


def _counted(one: Comparison) -> dict:
    return {"value": one.counted, "difference": one.difference, "agrees": one.agrees, "reason": one.reason}
