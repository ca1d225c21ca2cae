"""Counts by reason, with the first of each: what notices and errors say of many entries."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foveal.tasks.detection.data.entries import Problem


@dataclass
class Tally:
    """How many things there are by reason, and which is the first.

    Attributes:
        counts: by reason, a short phrase without a verb.
        first: by reason, which thing came first, in words.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, which: str, count: int = 1) -> None:
        """Count ``count`` more; ``which`` is remembered if it is the first."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.first.setdefault(reason, which)

    def update(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for reason, count in other.counts.items():
            self.add(reason, other.first[reason], count)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def parts(self) -> Iterator[str]:
        """Yield each reason with its count and the first, as in ``box of zero area (3, the first: annotation 7)``."""
        for reason, count in self.counts.items():
            which = self.first[reason]
            yield f"{reason} ({which})" if count == 1 else f"{reason} ({count:,}, the first: {which})"

    def __str__(self) -> str:
        return "; ".join(self.parts())


@dataclass
class Findings:
    """What is wrong in an annotation file, and what is not written as in COCO.

    Attributes:
        file: sentences name it.
        problems: a sentence about each invalid entry, without its full stop.
        broken, repairs: their numbers by reason.
    """

    file: Path
    problems: list[str] = field(default_factory=list)
    broken: Tally = field(default_factory=Tally)
    repairs: Tally = field(default_factory=Tally)

    def add(self, which: str, problem: Problem) -> None:
        """Note an invalid entry; ``which`` begins the sentence."""
        reason, words = problem
        self.problems.append(f"{which} in {self.file} {words}")
        self.broken.add(reason, which[0].lower() + which[1:])
