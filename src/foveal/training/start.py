"""The weights that a run started from, for people and for ``run.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsFile

MOST_NAMES = 4  # in a sentence; run.json has all


@dataclass(frozen=True)
class Start:
    """The weights that a run started from.

    Attributes:
        source: the file, or the name of the released weights.
        report: the tensors of the network that were loaded, and those that began anew.
        wrapper: keys that the weights are under in the file, outermost first.
        averaged: whether these are averaged weights.
        beside: keys of the file's other networks, which were not taken.
    """

    source: str
    report: LoadReport
    wrapper: tuple[str, ...] = ()
    averaged: bool = False
    beside: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, file: WeightsFile, report: LoadReport) -> "Start":
        """Return the start from an opened file."""
        return cls(str(file.path), report, file.wrapper, file.averaged, file.beside)

    def __str__(self) -> str:
        """Return a sentence for the start of a run."""
        return self._sentence("were loaded", "began anew", ("was left out", "were left out"))

    @property
    def planned(self) -> str:
        """The same sentence for a plan, in which nothing was loaded yet."""
        return self._sentence("would be loaded", "would begin anew", ("would be left out",) * 2)

    def _sentence(self, loaded: str, anew: str, left_out: tuple[str, str]) -> str:
        report = self.report
        parts = [f"{len(report.loaded):,} tensors {loaded} from {self.source}{self._which()}"]
        if report.new:
            parts.append(f"{_listed(report.new)} {anew}")
        if report.left_out:
            count = f"{report.left_out:,}" if report.left_out > 1 else "one"
            parts.append(f"{count} of its tensors {left_out[report.left_out > 1]}")
        return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1] + "."

    def _which(self) -> str:
        """Return which of several networks in the file it was, in parentheses."""
        if not self.beside:
            return ""
        weights = "the averaged weights" if self.averaged else "the weights"
        return f" ({weights} under {'.'.join(self.wrapper)}, not those under {', '.join(self.beside)})"

    def document(self) -> dict[str, Any]:
        """Return the names in plain types."""
        report = self.report
        return {
            "source": self.source,
            "wrapper": list(self.wrapper),
            "averaged": self.averaged,
            "beside": list(self.beside),
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
