"""What is left of an evaluation of several parts, as one total."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class Advance(Protocol):
    """Shows how far the whole evaluation is."""

    def __call__(self, title: str, done: float, total: float) -> None:
        """Show the part at hand, and how much of the whole is done, in any unit."""


#: A context in which progress is shown.
Progress = Callable[[], AbstractContextManager[Advance]]


@dataclass
class Total:
    """Counts the work of parts one after another.

    Attributes:
        advance: shows it.
        whole: the work of all parts, in any unit that time is in proportion to, such as pixels.
        parts: number of parts.
        done: the work of the parts that are finished.
        finished: how many these are.
    """

    advance: Advance
    whole: float
    parts: int
    done: float = 0.0
    finished: int = 0

    def part(self, title: str, work: float) -> Callable[[int, int], None]:
        """Return ``on_batch(done, total)`` of the next part."""
        words = title if self.parts == 1 else f"{self.finished + 1} of {self.parts}: {title}"
        self.advance(words, self.done, self.whole)

        def on_batch(done: int, total: int) -> None:
            self.advance(words, self.done + work * done / total, self.whole)

        return on_batch

    def end(self, work: float) -> None:
        """Count a part as finished."""
        self.done += work
        self.finished += 1
