"""Files of predictions, written as the predictions come: JSON, JSON lines, CSV, and features for NumPy.

Each function yields what takes the next prediction. A document is complete when the block ends; after an error it is
left as it is, so files are written under a name that ``atomic_file`` or ``staging_folder`` removes.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any, BinaryIO, TextIO

import numpy as np

from foveal.errors import FovealError
from foveal.files import atomic_file

ADVICE, FEATURES_ADVICE = "choose another --out", "choose another --features"
COLUMNS = ("path", "rank", "class", "probability")
NAMES_ENDING = ".json"  # of the names beside features

Add = Callable[[Any], None]


@contextmanager
def json_list(file: TextIO) -> Iterator[Add]:
    """Write a JSON list, as ``json.dumps`` does with an indent of 2; yield what takes the next item."""
    count = 0

    def add(item: Any) -> None:
        nonlocal count
        file.write(",\n" if count else "[\n")
        file.write(indent(json.dumps(item, indent=2), "  "))
        count += 1

    yield add
    file.write("\n]\n" if count else "[]\n")


@contextmanager
def json_lines(file: TextIO) -> Iterator[Add]:
    """Write one JSON document a line; yield what takes the next one."""
    yield lambda item: print(json.dumps(item), file=file)


@contextmanager
def csv_rows(file: TextIO) -> Iterator[Add]:
    """Write a row for each class of an image, the most probable first; yield what takes the next image's document.

    An image without a label has one row with its path alone."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)

    def add(document: Any) -> None:
        for rank, guess in enumerate(document["guesses"], start=1):
            writer.writerow([document["path"], rank, guess["name"], f"{guess['probability']:.6g}"])
        if not document["guesses"]:
            writer.writerow([document["path"], *[""] * (len(COLUMNS) - 1)])

    yield add


#: Ending of a classifier's file -> what writes it.
CLASS_FILES = {".csv": csv_rows, ".json": json_list, ".jsonl": json_lines}


@contextmanager
def class_file(path: Path) -> Iterator[Add]:
    """Write documents of a classifier's predictions, in the form that the ending of ``path`` says, atomically.

    Raises:
        FovealError: the file cannot be written.
    """
    with ExitStack() as stack:
        part = stack.enter_context(atomic_file(path, ADVICE))
        # Names of files may have bytes that are not UTF-8, which Python holds as surrogates.
        file = stack.enter_context(part.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
        yield stack.enter_context(CLASS_FILES[path.suffix.lower()](file))


@contextmanager
def feature_file(path: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Write features of images as one array (N, C), float32, and their names in the same order as a JSON list beside
    it; both appear together. Yield what takes a name and a feature (C,).

    Raises:
        FovealError: a file cannot be written.
    """
    rows = width = 0
    with ExitStack() as stack:
        name_part = stack.enter_context(atomic_file(path.with_suffix(NAMES_ENDING), FEATURES_ADVICE))
        array_part = stack.enter_context(atomic_file(path, FEATURES_ADVICE))
        names = stack.enter_context(name_part.open("w", encoding="utf-8"))
        array = stack.enter_context(array_part.open("wb"))

        def add(name: str, feature: np.ndarray) -> None:
            nonlocal rows, width
            if not rows:
                _write_header(array, 0, len(feature))
            names.write((",\n" if rows else "[\n") + json.dumps(name))
            array.write(feature.astype("<f4").tobytes())
            rows, width = rows + 1, len(feature)

        yield add
        names.write("\n]\n" if rows else "[]\n")
        array.seek(0)
        _write_header(array, rows, width)


def _write_header(file: BinaryIO, rows: int, width: int) -> None:
    """Write the header of a .npy file. NumPy pads it such that its length does not depend on the number of rows."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})


def check_place(path: Path, advice: str) -> None:
    """Raise FovealError if a file could not be written at ``path``. Nothing is created."""
    if path.is_dir():
        raise FovealError(f"{path} is a folder: pass the name of a file.")
    if not path.parent.is_dir():
        raise FovealError(f"There is no folder {path.parent}: create it, or {advice}.")
    if not os.access(path.parent, os.W_OK):
        raise FovealError(f"{path.parent} is not writable: {advice}.")
