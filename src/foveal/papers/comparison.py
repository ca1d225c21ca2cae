"""Counts of this library beside the printed figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from .columns import Column
from .table import Figure, PaperTable, Row

Counted = Mapping[tuple[int, str], float]
"""Counts in the units of their columns, by index of the row and name of the column."""


@dataclass(frozen=True)
class Comparison:
    """A printed figure and its count.

    Attributes:
        row, column, printed: the cell.
        counted: the count, in the unit of the column.
        reason: why the two differ, if it is known.
    """

    row: Row
    column: Column
    printed: Figure
    counted: float
    reason: str | None

    @property
    def agrees(self) -> bool:
        """Whether the count, rounded as the figure, is the printed figure."""
        return self.printed.agrees(self.counted)

    @property
    def difference(self) -> float | None:
        """The count minus the printed number; None if there is none."""
        return None if self.printed.number is None else self.counted - self.printed.number

    @property
    def is_unexplained(self) -> bool:
        """Whether a number is printed that differs from the count without a known reason."""
        return self.printed.number is not None and not self.agrees and not self.reason


def compare(table: PaperTable, counted: Counted) -> list[list[Comparison]]:
    """Return the comparisons of every row of a table, in the order of its columns."""
    return [
        [
            Comparison(row, column, row.figures[column.name], counted[index, column.name], _reason(table, row, column))
            for column in table.columns
            if (index, column.name) in counted
        ]
        for index, row in enumerate(table.rows)
    ]


def _reason(table: PaperTable, row: Row, column: Column) -> str | None:
    return table.reason(column.name, row.name)
