"""The names of the classes, and which numbers or colours of label maps stand for them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.errors import FovealError
from foveal.image_files import read_text
from foveal.tasks.listing import find_entry
from foveal.tasks.segmentation.segmenter import IGNORED

CLASSES_FILE = "classes.txt"
COLOURS_FILE = "labelmap.txt"  # CVAT's, in exports of segmentation masks
ROBOFLOW_FILE = "_classes.csv"  # beside the images of a split
VOID = (224, 224, 192)  # colour of ignored pixels in Pascal VOC's label maps, its palette's last

INVALID = -1  # label of a number that stands for no class
NUMBERS = 256  # values of an 8-bit pixel
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """The classes of label maps, and what stands for them.

    Attributes:
        classes: names, indexed by label.
        source: what the names were read from.
        numbers: the label of each number in the label maps; None if they count the classes, from 0 or from 1.
        colours: the label of each colour in the label maps; None if they hold numbers.
    """

    classes: list[str]
    source: str
    numbers: Mapping[int, int] | None = None
    colours: Mapping[Colour, int] | None = None

    def table(self, zero_ignored: bool) -> np.ndarray:
        """Return (257,) int64: the label of each number, ``IGNORED`` or ``INVALID``; the last is for larger numbers.

        Colours have been replaced by labels already.

        Args:
            zero_ignored: where numbers count the classes, 0 is ignored and class 0 is stored as 1 (MMSegmentation's
                ``reduce_zero_label``).
        """
        if self.colours is not None:
            return label_table(len(self.classes), zero_ignored=False)
        if self.numbers is None:
            return label_table(len(self.classes), zero_ignored)
        table = np.full(NUMBERS + 1, INVALID, dtype=np.int64)
        table[IGNORED] = IGNORED
        table[list(self.numbers)] = list(self.numbers.values())
        return table


def label_table(num_classes: int, zero_ignored: bool) -> np.ndarray:
    """Return the table of label maps whose numbers count the classes; see ``Legend.table``."""
    first = int(zero_ignored)
    classes = min(num_classes, IGNORED - first)
    table = np.full(NUMBERS + 1, INVALID, dtype=np.int64)
    table[first : first + classes] = np.arange(classes)
    table[:first] = table[IGNORED] = IGNORED
    return table


def read_legend(root: Path, images: Path) -> Legend | None:
    """Read the classes from the file that says what label maps mean, or return None if there is none.

    These are looked for in this order: ``labelmap.txt`` in ``root`` (names and colours, as CVAT writes it),
    ``classes.txt`` in ``root`` (names, one per line, in the order of the numbers), ``_classes.csv`` in the folder of
    the images (numbers and names, as Roboflow writes it).

    Raises:
        FovealError: it cannot be understood, a name is missing or occurs twice, or there are too many.
    """
    readers = (
        (find_entry(root, COLOURS_FILE), _read_colours),
        (find_entry(root, CLASSES_FILE), _read_lines),
        (images / ROBOFLOW_FILE, _read_csv),
    )
    found = [read(file) for file, read in readers if file.is_file()]
    for legend in found:
        _check(legend.classes, legend.source)
        if legend.classes != found[0].classes:
            raise FovealError(
                f"{found[0].source} and {legend.source} name other classes, or the same in another order: remove one "
                "of them."
            )
    return found[0] if found else None


def _read_lines(file: Path) -> Legend:
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if not names:
        raise FovealError(f"{file} is empty: write the names of the classes into it, one per line.")
    for number, name in enumerate(names, 1):
        if not name:
            raise FovealError(f"Line {number} of {file} is empty: every line must name a class.")
    return Legend(names, str(file))


def _read_colours(file: Path) -> Legend:
    """Read lines of ``name:red,green,blue:parts:actions``; the latter two are not needed."""
    names: list[str] = []
    colours: dict[Colour, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"\s*([^:]*[^:\s])\s*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(:.*)?", line)
        colour = (int(found[2]), int(found[3]), int(found[4])) if found else (NUMBERS, 0, 0)
        if found is None or max(colour) >= NUMBERS:
            raise FovealError(
                f"Line {number} of {file} is no class and colour: write NAME:RED,GREEN,BLUE::, with colours up to 255."
            )
        if colour in colours:
            raise FovealError(
                f"{file} has the colour {_rgb(colour)} twice, for {names[colours[colour]]} and {found[1]}: give each "
                "class a unique colour."
            )
        colours[colour] = len(names)
        names.append(found[1])
    if not names:
        raise FovealError(f"{file} is empty: write NAME:RED,GREEN,BLUE:: for each class.")
    colours.setdefault(VOID, IGNORED)
    return Legend(names, str(file), colours=colours)


def _read_csv(file: Path) -> Legend:
    """Read rows of a number and a name, below a heading."""
    names: list[str] = []
    numbers: dict[int, int] = {}
    rows = list(csv.reader(read_text(file).splitlines()))
    for row in filter(None, rows[1:]):
        number, *name = (cell.strip() for cell in row)
        if len(name) != 1 or not name[0] or not number.isdecimal() or int(number) >= IGNORED or int(number) in numbers:
            raise FovealError(
                f"{file} has the row {','.join(row)!r}: write a number from 0 to {IGNORED - 1}, each once, and the "
                "name of its class."
            )
        numbers[int(number)] = len(names)
        names.append(name[0])
    if not names:
        raise FovealError(f"{file} is empty: write the number and the name of each class into it, below a heading.")
    return Legend(names, str(file), numbers=numbers)


def _check(names: list[str], file: str) -> None:
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise FovealError(f"{file} has the class {twice!r} twice: give each class a unique name.")
    if len(names) > IGNORED:
        raise FovealError(
            f"{file} names {len(names)} classes, and at most {IGNORED} are possible, since {IGNORED} is the label of "
            "ignored pixels: merge some of them."
        )


def _rgb(colour: Colour) -> str:
    return ",".join(map(str, colour))
