"""Logs for programs and plots: one JSON object a line, stamped with the time."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from foveal.files import atomic_file, write_errors

ADVICE = "make room, then --resume; what was saved before is untouched"


class JsonLines:
    """One log of a run.

    A line is written before the checkpoint that covers it, so a run killed between the two leaves lines too many and
    never one too few; ``rewind`` removes them when the run goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one record, stamped with the time in UTC. Raises FovealError where the disk refuses."""
        line = json.dumps({**record, "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds")})
        with write_errors(self.path, ADVICE), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Leave out the records that ``keep`` says no to, and return the others. Raises as ``append``."""
        records = self.read()
        kept = [record for record in records if keep(record)]
        if self.path.exists():
            write_lines(self.path, map(json.dumps, kept))
        return kept

    def read(self) -> list[dict[str, Any]]:
        """The whole lines; what a kill cut off has no line end and is not one."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a text file of a run, whole or not at all. Raises FovealError if the disk refuses."""
    with atomic_file(path, ADVICE) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
