"""The weights that a run started from, for people and for ``run.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveal.models.load_report import LoadReport

MOST_NAMES = 4  # in a sentence; run.json has all


@dataclass(frozen=True)
class Start:
    """The weights that a run started from.

    Attributes:
        source: the file, or the name of the released weights.
        report: the tensors of the network that were loaded, and those that began anew.
    """

    source: str
    report: LoadReport

    def __str__(self) -> str:
        report = self.report
        parts = [f"{len(report.loaded):,} tensors were loaded from {self.source}"]
        if report.new:
            parts.append(f"{_listed(report.new)} began anew")
        if report.left_out:
            tensors = f"{report.left_out:,} of its tensors were" if report.left_out > 1 else "one of its tensors was"
            parts.append(f"{tensors} left out")
        return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1] + "."

    def document(self) -> dict[str, Any]:
        """Return the names in plain types."""
        report = self.report
        return {
            "source": self.source,
            "loaded": list(report.loaded),
            "new": list(report.new),
            "left_out": report.left_out,
        }


def _listed(names: Sequence[str]) -> str:
    """Return a few names, or the number of many and the modules that they belong to."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    modules = list(dict.fromkeys(name.split(".")[0] for name in names))
    more = ", ..." if len(modules) > MOST_NAMES else ""
    return f"{len(names):,} ({', '.join(modules[:MOST_NAMES])}{more})"
