"""The rows of a table of labels, ``file,labels``: an image file and any number of labels, separated by spaces."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import FovealError

HEADER = ("file", "labels")


@dataclass(frozen=True)
class LabelRow:
    """One image: its name as written, its path, its labels, and its line in the table, from 1."""

    name: str
    path: str
    labels: tuple[str, ...]
    line: int


def is_label_table(path: Path) -> bool:
    """Return whether a CSV file begins with a column ``file``."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return bool(first) and first[0].strip().casefold() == HEADER[0]


def read_label_rows(path: Path) -> list[LabelRow]:
    """Return the rows of a table. Its files are in the folder of the table, or in one beside it with the table's name.

    Raises:
        FovealError: the table cannot be read, or a row of it; the sentence has the number of the line.
    """
    rows: list[LabelRow] = []
    lines: dict[str, int] = {}
    for line, cells in _lines(path):
        row = _row(path, line, cells)
        if row.path in lines:
            raise FovealError(
                f"{path}, line {line}: {row.name} is in line {lines[row.path]}, too: write all labels in one line."
            )
        lines[row.path] = line
        rows.append(row)
    if not rows:
        raise FovealError(f"{path} has no image: write a line for each, such as a.jpg,cat dog.")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line after the header that is not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = tuple(cell.strip().casefold() for cell in next(reader, []))
            if header != HEADER:
                raise FovealError(f"{path}, line 1: the columns must be file,labels, not {','.join(header)}.")
            yield from ((reader.line_num, cells) for cells in reader if any(cells))
    except UnicodeDecodeError as error:
        raise FovealError(f"{path} is not a text in UTF-8: save it as one.") from error
    except csv.Error as error:
        raise FovealError(f"{path} is not a CSV file ({error}): save it as one.") from error
    except OSError as error:
        raise FovealError(f"{path} cannot be read ({error.strerror}).") from error


def _row(path: Path, line: int, cells: list[str]) -> LabelRow:
    if len(cells) != len(HEADER):
        columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        raise FovealError(f"{path}, line {line}: {columns} instead of file,labels: separate labels by spaces.")
    name = cells[0].strip()
    places = [os.path.join(path.parent, name), os.path.join(path.parent, path.stem, name)]
    found = next((place for place in places if os.path.isfile(place)), None)
    if not name or found is None:
        raise FovealError(f"{path}, line {line}: there is no image {places[0]}.")
    return LabelRow(name, found, tuple(dict.fromkeys(cells[1].split())), line)
