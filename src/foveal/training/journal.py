"""The folder of a run: its lock, its logs, its checkpoints, and the order in which they are written.

``run.json`` says how the run began, and is never written again. ``steps.jsonl`` and ``metrics.jsonl`` get their lines
first, then ``best.pt`` is written, then ``last.pt``. Only when that has reached the disk is the save announced, so a
kill at any moment loses nothing that was announced. Resuming cuts the logs back to the state of ``last.pt``.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import atomic_file, file_lock, make_folder, write_errors
from foveal.training.checkpoint import save_checkpoint
from foveal.training.finite import refuse_nonfinite_weights
from foveal.training.listener import Listener, StepReport
from foveal.training.run import Run, beginning, run_metadata, state_of
from foveal.training.run_files import BEGINNING, BEST, BROKEN, LAST, LOCK, METRICS, STEPS

ADVICE = "make room, then --resume; what was saved before is untouched"


class Journal:
    """Write the files of a run and report to its listener, both on the main process.

    The other processes only wait until the files are complete. The folder exists: ``locked`` creates it.
    """

    def __init__(self, out: Path, run: Run, listener: Listener) -> None:
        self.out, self.run = out, run
        self.listener = listener if run.processes.is_main else Listener()
        self._told = set(run.task.notices)
        self._epochs, self._steps = JsonLines(out / METRICS), JsonLines(out / STEPS)

    def rewind(self) -> None:
        """Remove the lines after the state that ``run`` continues from; for a new run there are none."""
        run = self.run
        if run.processes.is_main:
            run.history = self._epochs.rewind(lambda record: record["epoch"] <= run.epoch)
            self._steps.rewind(lambda record: record["update"] <= run.step)

    def begin(self) -> None:
        """Write how a new run begins: its settings as they are run, its images, and the weights it starts from."""
        if self.run.processes.is_main:
            with atomic_file(self.out / BEGINNING, ADVICE) as part:
                part.write_text(json.dumps(beginning(self.run), indent=1) + "\n", encoding="utf-8")

    def step(self, report: StepReport) -> None:
        """Log and report one look at training."""
        if self.run.processes.is_main:
            self._steps.append(_line(report))
        self.listener.step(report)

    def save(self) -> None:
        """Save everything that resuming needs to ``last.pt``; every process calls it at the same step."""
        run = self.run
        run.meter.read(run.processes)
        refuse_nonfinite_weights(run.model, f"step {run.step}")
        if run.processes.is_main:
            save_checkpoint(state_of(run), self.out / LAST)
        run.processes.wait()
        self.listener.saved(run.step, self.out / LAST)

    def epoch(self, numbers: dict[str, float]) -> None:
        """Close an epoch: log it, save its weights if they are the best so far, and save the state."""
        run = self.run
        value = numbers[f"val_{run.task.monitor}"]
        is_best = run.improves(value)
        if is_best:
            run.best, run.best_epoch = value, run.epoch
        record = {"epoch": run.epoch, "step": run.step, **numbers}
        run.history.append(record)
        refuse_nonfinite_weights(run.evaluated, f"step {run.step}")
        self._list_broken()
        if run.processes.is_main:
            self._epochs.append(record)
            if is_best:
                best = {**run_metadata(run), "model": run.evaluated.state_dict(), "metrics": record}
                save_checkpoint(best, self.out / BEST)
        self.save()
        self.listener.epoch(record, is_best)

    def notices(self) -> None:
        """Report the notices of the task that came up since the run began."""
        for sentence in self.run.task.notices:
            if sentence not in self._told:
                self._told.add(sentence)
                self.listener.notice(sentence)

    def _list_broken(self) -> None:
        """Write the images that any process has skipped since the run was started or resumed, one per line."""
        names = self.run.processes.gather_objects(self.run.loader.broken)
        if names and self.run.processes.is_main:
            path = self.out / BROKEN
            known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            _write_lines(path, sorted({*known, *names}))


#: Keys of every line of steps.jsonl; all others are the task's.
LOGGED = frozenset(
    ("update", "epoch", "step", "loss", "lr", "images_per_second", "data_wait_seconds", "memory_bytes", "time")
)


def _line(report: StepReport) -> dict[str, Any]:
    return {
        "update": report.update,
        "epoch": report.epoch,
        "step": report.step,
        "loss": report.loss,
        **report.stats,
        "lr": report.lr,
        "images_per_second": round(report.images_per_second, 1),
        "data_wait_seconds": round(report.data_wait_seconds, 4),
        "memory_bytes": report.memory_bytes,
    }


class JsonLines:
    """A log of a run: one JSON object per line, with the time.

    A line is written before the checkpoint that covers it. A run that is killed between the two leaves too many lines,
    never too few; ``rewind`` removes them when the run is resumed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one record with the time in UTC. Raises FovealError if the disk refuses."""
        line = json.dumps({**record, "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds")})
        with write_errors(self.path, ADVICE), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Remove the records that ``keep`` rejects and return the others. Raises as ``append``."""
        records = self.read()
        kept = [record for record in records if keep(record)]
        if self.path.exists():
            _write_lines(self.path, map(json.dumps, kept))
        return kept

    def read(self) -> list[dict[str, Any]]:
        """Return the records of all complete lines; a line that a kill cut off has no line end."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_file(path, ADVICE) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder ``out`` for this process, creating it if necessary: two runs would spoil each other's files. See
    ``file_lock``.

    Raises:
        FovealError: Another process holds the folder, or it cannot be created.
    """
    advice = "choose another --out"
    make_folder(out, advice)
    with file_lock(out / LOCK, advice) as ours:
        if not ours:
            raise FovealError(f"Another process is training into {out}: wait for its end, or choose another --out.")
        yield
