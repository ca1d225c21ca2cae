"""``metrics.jsonl``: one line an epoch, for programs and plots."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from foveal.errors import FovealError


class MetricsLog:
    """The log of one run.

    The line of an epoch is written before the epoch's checkpoint, so a run killed between the two leaves a line too
    many and never one too few; ``rewind`` removes it when the run goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one epoch, stamped with the time in UTC. Raises FovealError where the disk refuses."""
        line = json.dumps({**record, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise FovealError(
                f"{self.path} could not be written ({error.strerror}): make room, then --resume."
            ) from error

    def rewind(self, epochs: int) -> list[dict[str, Any]]:
        """Keep the lines of the first ``epochs`` epochs, and return them."""
        kept = [record for record in self._records() if record["epoch"] <= epochs]
        if self.path.exists():
            part = self.path.with_name(f".{self.path.name}.part")
            part.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
            part.replace(self.path)
        return kept

    def _records(self) -> list[dict[str, Any]]:
        """The whole lines; what a kill cut off has no line end and is not one."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
