"""A results table in memory: its figures as they were printed, and where they are from."""

import ast
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, cast

from .columns import COLUMNS, Column

UNKNOWN = "?"
_NOT_FIGURES = ("row", "model", "arguments", "peer")


@dataclass(frozen=True)
class Figure:
    """One cell: a number or a word as the paper prints it.

    Attributes:
        printed: the characters; "" if the paper prints none, "?" if it prints one that is not known here.
        is_text: a word, also if it looks like a number.
    """

    printed: str
    is_text: bool = False

    @property
    def value(self) -> float | int | str | None:
        """The number or the word; None if there is none or it is not known."""
        if self.printed in ("", UNKNOWN):
            return None
        if self.is_text or not re.fullmatch(r"-?\d+(\.\d+)?", self.printed):
            return self.printed
        return float(self.printed) if "." in self.printed else int(self.printed)

    @property
    def number(self) -> float | int | None:
        """The value if it is a number."""
        return None if isinstance(self.value, str) else self.value

    @property
    def decimals(self) -> int | None:
        """How many decimals are printed: 2 of "12.80"; None if this is no number."""
        return None if self.number is None else len(self.printed.partition(".")[2])

    def agrees(self, exact: float) -> bool:
        """Return whether ``exact``, rounded to the printed decimals, is what is printed."""
        return self.decimals is not None and f"{exact:.{self.decimals}f}" == self.printed


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: as in the paper ("ConvNeXt-T", "GLU -> ConvGLU").
        model: name for ``timm.create_model``, with the tag of the weights, of a network of this library; else None.
        arguments: further arguments of ``timm.create_model``, of an ablation.
        peer: timm's name of a network of others, where ``--time`` measures it beside ours.
        is_ours: it is the papers' own network, as published.
        figures: the cells by name of their column.
    """

    name: str
    model: str | None
    is_ours: bool
    figures: Mapping[str, Figure]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    peer: str | None = None

    def number(self, column: str) -> float | int | None:
        """Return the number in a column; None if there is none, or no such column."""
        return self.figures[column].number if column in self.figures else None


@dataclass(frozen=True)
class PaperTable:
    """A results table of a paper.

    Attributes:
        name: "transnext.imagenet".
        title: what it shows, in words of this library.
        paper: "TransNeXt" or "TransXNet".
        number: its number in the paper ("1", "IV").
        source: the version of the paper that the figures are from.
        columns: columns of figures, in order.
        rows: rows, in the paper's order.
        keys: names of the columns that, with the name, identify a row.
        counts: what can be counted again, by column: "params" or "macs" of the backbone, or "params of HEAD".
        reasons: (column, pattern of row names, sentence): why a count differs from the printed figure.
        notes: sentences on the figures.
    """

    name: str
    title: str
    paper: str
    number: str
    source: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    keys: tuple[str, ...] = ()
    counts: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def models(self) -> dict[str, Row]:
        """The first row of each network of this library without arguments, by its ``model``."""
        found: dict[str, Row] = {}
        for row in self.rows:
            if row.model and not row.arguments:
                found.setdefault(row.model, row)
        return found

    def reason(self, column: str, row: str) -> str | None:
        """Return why a count of this cell differs from the printed figure, or None if no reason is known."""
        for name, pattern, sentence in self.reasons:
            if name == column and fnmatchcase(row, pattern):
                return sentence
        return None


def parse(name: str, text: str) -> PaperTable:
    """Return the table in a file of ``tables/``: lines ``# key: value``, then CSV. CONTRIBUTING.md lists the keys."""
    lines = text.splitlines()
    facts = list(_facts(lines))
    single = dict(facts)
    records = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns = tuple(COLUMNS[column] for column in records[0] if column not in _NOT_FIGURES)
    ours = single["ours"]
    return PaperTable(
        name=name,
        title=single["title"],
        paper=single["paper"],
        number=single["table"],
        source=single["source"],
        columns=columns,
        rows=tuple(_row(record, columns, ours) for record in records),
        keys=tuple(value for key, value in facts if key == "key"),
        counts={key.removeprefix("count "): value for key, value in facts if key.startswith("count ")},
        reasons=tuple(_reason(key, value) for key, value in facts if key.startswith("reason ")),
        notes=tuple(value for key, value in facts if key == "note"),
    )


def _facts(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line.startswith("#"):
            key, _, value = line.removeprefix("#").partition(":")
            yield key.strip(), value.strip()


def _row(record: dict[str, str], columns: tuple[Column, ...], ours: str) -> Row:
    figures = {column.name: Figure(record[column.name], column.is_text) for column in columns}
    arguments = _arguments(record.get("arguments") or "")
    own, peer = record["model"] or None, record.get("peer") or None
    return Row(record["row"], own, fnmatchcase(record["row"], ours), figures, arguments, peer)


def _arguments(text: str) -> dict[str, Any]:
    """Read arguments as they are written in a call: ``token_mixers='AAMM', head_dim=48``."""
    call = cast(ast.Call, ast.parse(f"f({text})", mode="eval").body)
    return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}


def _reason(key: str, sentence: str) -> tuple[str, str, str]:
    column, _, row = key.removeprefix("reason ").partition(" of ")
    return column, row, sentence
