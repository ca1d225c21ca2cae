"""Which classes have pixels: noted while label maps are read, and said where a class has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foveal.tasks.listing import few
from foveal.tasks.segmentation.data.class_names import INVALID, NUMBERS
from foveal.tasks.segmentation.data.label_maps import capped
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.training.processes import Processes


@dataclass(frozen=True)
class Seen:
    """What some label maps of a set hold.

    Attributes:
        numbers: the numbers that occur; 256 stands for larger ones.
        read: how many label maps were read.
        total: how many there are.
    """

    numbers: frozenset[int]
    read: int
    total: int


class Coverage:
    """Notes which numbers label maps hold. Loading processes write into the same memory.

    Only ones are written, so that the order of writers does not matter.
    """

    def __init__(self, total: int) -> None:
        self._numbers = torch.zeros(NUMBERS + 1, dtype=torch.uint8).share_memory_()
        self._read = torch.zeros(total, dtype=torch.uint8).share_memory_()

    def note(self, index: int, numbers: np.ndarray) -> None:
        """Note the numbers of label map ``index``."""
        self._numbers.numpy()[capped(numbers)] = 1
        self._read[index] = 1

    def seen(self, processes: Processes | None = None) -> Seen:
        """Return what was noted, by all ``processes`` if given; then each of them must call."""
        noted = torch.cat([self._numbers, self._read]).double()
        noted = noted if processes is None else processes.sum_rows(noted)
        numbers, read = noted[: NUMBERS + 1].nonzero().flatten(), noted[NUMBERS + 1 :] > 0
        return Seen(frozenset(numbers.tolist()), int(read.sum()), len(read))


def present(table: np.ndarray, seen: Seen) -> set[int]:
    """Return the labels of the classes that have pixels, by a ``Legend.table``."""
    return {int(table[number]) for number in seen.numbers} - {IGNORED, INVALID}


def absent_classes(classes: Sequence[str], table: np.ndarray, seen: Seen) -> list[str]:
    """Return the names of the classes that no label map has that was read."""
    found = present(table, seen)
    return [name for label, name in enumerate(classes) if label not in found]


def about_absent(place: str, classes: Sequence[str], table: np.ndarray, seen: Seen) -> list[str]:
    """Return a sentence about the classes that no label map in ``place`` has, or nothing if each has a pixel."""
    absent = absent_classes(classes, table, seen)
    if not absent:
        return []
    some = f"None of the {seen.read:,} label maps that were read, of {seen.total:,} in {place}, has"
    who = f"No label map in {place} has" if seen.read == seen.total else some
    names = few(absent)
    which = f"the class {names}" if len(absent) == 1 else f"{len(absent)} of the {len(classes)} classes ({names})"
    return [f"{who} a pixel of {which}{_advice(classes, table, seen)}."]


def about_ignored(place: str, classes: Sequence[str], table: np.ndarray, seen: Seen) -> str:
    """Return the sentence about label maps in which no pixel has a class."""
    numbers = " and ".join(str(number) for number in sorted(seen.numbers))
    which = f"the number {numbers}, which is" if len(seen.numbers) == 1 else f"the numbers {numbers}, which are"
    advice = _advice(classes, table, seen) if len(seen.numbers) > 1 or 0 in seen.numbers else ""
    advice = advice or f": {_save_numbers(table)}"
    return f"All pixels of the label maps in {place} have {which} ignored{advice}."


def _advice(classes: Sequence[str], table: np.ndarray, seen: Seen) -> str:
    """Return the end of a sentence: what to change if pixels were ignored that probably have a class."""
    found, last = present(table, seen), len(classes) - 1
    own = seen.numbers - {IGNORED}
    if table[0] == IGNORED and 0 in own and last not in found and (own > {0} or IGNORED not in seen.numbers):
        return (
            f"; the number 0 is ignored and 1 is {classes[0]}, as in ADE20K: if 0 is {classes[0]} in these label maps, "
            "train with --zero class"
        )
    if IGNORED in seen.numbers and last > 0 and found <= {0}:
        change = f"save {IGNORED} as {_numbers(table)[-1]}" if last == 1 and found else _save_numbers(table)
        others = f"all pixels that are not {classes[0]} have" if found else "all others have"
        return f"; {others} the number {IGNORED}, which is ignored: {change}"
    return ""


def _save_numbers(table: np.ndarray) -> str:
    numbers = _numbers(table)
    return f"save the pixels of each class as its number, {numbers[0]} to {numbers[-1]}"


def _numbers(table: np.ndarray) -> list[int]:
    """Return the numbers that stand for classes."""
    return [number for number, label in enumerate(table.tolist()) if label not in (INVALID, IGNORED)]
