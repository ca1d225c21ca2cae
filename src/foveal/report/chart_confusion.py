"""A confusion matrix as a chart, and as a table for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveal.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CONFUSED = 30  # classes; a larger confusion matrix would be illegible
LEAST_SHOWN = 0.5  # percent; cells below it have no number
LONGEST_NAME = 24  # characters of a class's name


def draw_confusion(
    counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, axes_names: tuple[str, str]
) -> Figure:
    """Draw a confusion matrix in percent of each row; a row without counts is empty.

    Args:
        counts: (R, C), by what is true (row) and what was predicted (column).
        rows, columns: their names.
        title: of the chart.
        axes_names: what the rows are, and what the columns are.
    """
    total = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    figure = new_figure(2.8 + 0.36 * len(columns), 1.8 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if share >= LEAST_SHOWN:
            ink = "white" if share > 50 else "black"
            axes.text(column, row, f"{share:.0f}", color=ink, fontsize=7, ha="center", va="center")
    axes.set_xticks(range(len(columns)), [_short(name) for name in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.tick_params(length=0, labelsize=7)
    axes.set_ylabel(axes_names[0], fontsize=8)
    axes.set_xlabel(axes_names[1], fontsize=8)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=10)
    return figure


def most_confused(counts: np.ndarray, most: int = MOST_CONFUSED) -> np.ndarray:
    """Return the indices of at most ``most`` classes of a square matrix, those of the most mistakes, in their order."""
    wrong = counts - np.diag(np.diag(counts))
    mistakes = wrong.sum(0) + wrong.sum(1)
    return np.sort(np.argsort(-mistakes, kind="stable")[:most])


def write_table(path: Path, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as CSV; None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])


def write_confusion(path: Path, counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], corner: str) -> None:
    """Write a confusion matrix as CSV: a row of each true class, and the predicted classes in the heading."""
    write_table(path, [corner, *columns], [[name, *line] for name, line in zip(rows, counts.tolist(), strict=True)])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
