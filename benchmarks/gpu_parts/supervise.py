"""Child processes: started, watched, stopped at their limit, and restarted after a row that crashed them.

A part has one lane or several. A lane is a process that writes lines of JSON: ``{"start": name}`` before a row and
``{"row": name, ...}`` after it, and that does not repeat rows that are in its file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_POLL = 0.2  # seconds
_LOG = 2000  # characters kept of what a process printed
DEVICE_IS_LOST = 3  # exit status of a process whose last row is complete, but which can run no other


@dataclass(frozen=True)
class Part:
    """A part of the command.

    Attributes:
        name: its name.
        share: its share of the time, relative to those of the other parts.
        lanes: names of its lanes, which run at the same time if there are enough processors.
        row_share: the share of the part's time that one row may take.
    """

    name: str
    share: float
    lanes: tuple[str, ...] = ("",)
    row_share: float = 0.5


@dataclass
class Lane:
    """One lane: its command, the files that it writes, and its state: waiting, running, finished, failed or cut."""

    name: str
    command: Sequence[str]
    lines: Path
    environment: dict[str, str]
    state: str = "waiting"
    process: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.lines.with_suffix(".log")

    def start(self) -> None:
        """Start a process, in a group of its own so that it can be stopped with its children."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        self.state = "running"

    def watch(self, row_limit: float) -> None:
        """Detect the end of the process, and stop it if its row has taken more than ``row_limit`` seconds."""
        assert self.process is not None
        status = self.process.poll()
        started = self._open_row()
        if status is None:
            if started is not None and time.time() - self.lines.stat().st_mtime > row_limit:
                self._kill()
                self._close({**started, "failed": f"stopped: still running after {row_limit:.0f} s"})
                self.state = "waiting"
            return
        self._kill()
        if status == 0:
            self.state = "finished"
        elif started is not None:
            self._close({**started, "failed": f"the process ended with {_status(status)}"})
            self.state = "waiting"
        else:
            self.state = "waiting" if status == DEVICE_IS_LOST else "failed"

    def cut(self) -> None:
        """Stop a lane that has not finished."""
        if self.state == "running":
            self._kill()
            started = self._open_row()
            if started is not None:
                self._close({**started, "cut": True})
        if self.state in ("running", "waiting"):
            self.state = "cut"

    def rows(self) -> list[Row]:
        """Return the rows so far."""
        return [line for line in self._lines() if "row" in line]

    def said(self) -> str:
        """Return the end of what its processes printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_LOG:] if self.log.exists() else ""

    def _lines(self) -> list[Row]:
        """Return the complete lines: the last one may be cut off."""
        text = self.lines.read_text(encoding="utf-8") if self.lines.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line.strip()]

    def _open_row(self) -> Row | None:
        """Return what the last row is about if it was started and not written."""
        lines = self._lines()
        return {"row": lines[-1]["start"], **lines[-1]} if lines and "start" in lines[-1] else None

    def _close(self, row: Row) -> None:
        """Write a row on behalf of the process, and drop an incomplete line."""
        row.pop("start", None)
        lines = [*self._lines(), row]
        self.lines.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _kill(self) -> None:
        """End the process and its children. One that runs first prints where it is (see faulthandler)."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run_part(part: Part, lanes: Sequence[Lane], limit: float, on_change: Callable[[Row], None]) -> Row:
    """Run all lanes of a part for at most ``limit`` seconds.

    Args:
        part: the part.
        lanes: its lanes, none of them started.
        limit: seconds.
        on_change: called with the part's result so far, whenever there are new rows.

    Returns:
        The part's state, seconds, rows, and the end of what unfinished lanes printed.
    """
    started = time.monotonic()
    seen = -1
    try:
        while any(lane.state in ("waiting", "running") for lane in lanes) and time.monotonic() - started < limit:
            _start_waiting(lanes)
            time.sleep(_POLL)
            for lane in lanes:
                if lane.state == "running":
                    lane.watch(limit * part.row_share)
            count = sum(len(lane.rows()) for lane in lanes)
            if count != seen:
                seen = count
                on_change(_result("running", started, limit, lanes))
    finally:
        for lane in lanes:
            lane.cut()
    worst = next((state for state in ("failed", "cut") if any(lane.state == state for lane in lanes)), "finished")
    result = _result(worst, started, limit, lanes)
    on_change(result)
    return result


def _start_waiting(lanes: Sequence[Lane]) -> None:
    """Start lanes in their order, on half of the processors: compilers use the other half."""
    free = max(1, processors() // 2) - sum(lane.state == "running" for lane in lanes)
    for lane in [lane for lane in lanes if lane.state == "waiting"][: max(0, free)]:
        lane.start()


def _result(state: str, started: float, limit: float, lanes: Sequence[Lane]) -> Row:
    said = {lane.name or "output": lane.said() for lane in lanes if lane.state in ("failed", "cut")}
    return {
        "state": state,
        "seconds": round(time.monotonic() - started, 1),
        "limit_s": round(limit, 1),
        "rows": [row for lane in lanes for row in lane.rows()],
        **({"output": said} if said else {}),
    }


def _status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
