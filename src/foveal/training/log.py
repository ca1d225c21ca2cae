"""Logs for programs and plots: one JSON object a line, stamped with the time."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from foveal.errors import FovealError


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
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _refused(self.path, error) from error

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Leave out the records that ``keep`` says no to, and return the others. Raises as ``append``."""
        records = self.read()
        kept = [record for record in records if keep(record)]
        if self.path.exists():
            write_whole(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        return kept

    def read(self) -> list[dict[str, Any]]:
        """The whole lines; what a kill cut off has no line end and is not one."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def write_whole(path: Path, text: str) -> None:
    """Write beside the file and take its name in one step. Raises FovealError where the disk refuses."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> FovealError:
    return FovealError(
        f"{path} could not be written ({error.strerror}): make room, then --resume; what was saved before is untouched."
    )
