"""Figures that were measured here, to stand beside those of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .columns import Column
from .table import PaperTable


@dataclass(frozen=True)
class OwnFigures:
    """One kind of figure for some rows of a table.

    Attributes:
        column: the column that it stands beside; one that the table does not have is added after the others.
        name: in CSV and JSON ("ratio"); in CSV it follows the name of the column.
        heading: above the figures in text.
        values: the figures by index of the row.
        decimals: shown in text; None for three digits, and all before the point.
    """

    column: Column
    name: str
    heading: str
    values: Mapping[int, float]
    decimals: int | None = None

    def shown(self, row: int) -> str:
        """Return the figure of a row as text, "" if it has none."""
        if row not in self.values:
            return ""
        value = self.values[row]
        decimals = (0 if value >= 100 else 1 if value >= 10 else 2) if self.decimals is None else self.decimals
        return f"{value:.{decimals}f}"


@dataclass(frozen=True)
class Measured:
    """What was measured for a table.

    Attributes:
        figures: in the order in which they are shown beside their column.
        notes: sentences that the reader needs.
        facts: how it was measured, in plain types.
    """

    figures: tuple[OwnFigures, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def added_columns(self, table: PaperTable) -> list[Column]:
        """Return the columns that the table does not have."""
        return [one for one in dict.fromkeys(f.column for f in self.figures) if one not in table.columns]

    def beside(self, column: Column) -> list[OwnFigures]:
        """Return the figures of a column."""
        return [one for one in self.figures if one.column == column]

    def of_row(self, row: int) -> dict[str, dict[str, float]]:
        """Return the figures of a row by the names of their column and kind."""
        found: dict[str, dict[str, float]] = {}
        for one in self.figures:
            if row in one.values:
                found.setdefault(one.column.name, {})[one.name] = one.values[row]
        return found


NOTHING = Measured()
