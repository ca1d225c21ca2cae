"""What a run leaves in its folder, and in which order, so that a kill at any moment loses nothing that was announced.

``steps.jsonl`` and ``metrics.jsonl`` get their lines first, then ``best.pt``, then ``last.pt``; only when that has
reached the disk is the save announced. Resuming cuts the logs back to what ``last.pt`` knows.
"""

from pathlib import Path
from typing import Any

from foveal.training.checkpoint import save_checkpoint
from foveal.training.finite import refuse_nonfinite_weights
from foveal.training.listener import Listener, StepReport
from foveal.training.log import JsonLines, write_lines
from foveal.training.run import Run, cards, state_of

BEST, LAST, METRICS, STEPS = "best.pt", "last.pt", "metrics.jsonl", "steps.jsonl"
BROKEN = "broken.txt"


class Journal:
    """Writes and tells for the main process; the others only wait for it where the files must be whole.

    The folder is there: who holds its lock has made it.
    """

    def __init__(self, out: Path, run: Run, listener: Listener) -> None:
        self.out, self.run = out, run
        self.listener = listener if run.processes.is_main else Listener()
        self._epochs, self._steps = JsonLines(out / METRICS), JsonLines(out / STEPS)

    def rewind(self) -> None:
        """Forget what was logged behind the state that ``run`` continues from; a new run finds nothing."""
        run = self.run
        if run.processes.is_main:
            run.history = self._epochs.rewind(lambda record: record["epoch"] <= run.epoch)
            self._steps.rewind(lambda record: record["update"] <= run.step)

    def step(self, report: StepReport) -> None:
        """Log and tell one look at training."""
        if self.run.processes.is_main:
            self._steps.append(_line(report))
        self.listener.step(report)

    def save(self) -> None:
        """Put everything that a continuation needs into ``last.pt``; every process calls it at the same step."""
        run = self.run
        run.meter.read(run.processes)
        refuse_nonfinite_weights(run.model, f"step {run.step}")
        if run.processes.is_main:
            save_checkpoint(state_of(run), self.out / LAST)
        run.processes.wait()
        self.listener.saved(run.step, self.out / LAST)

    def epoch(self, numbers: dict[str, float]) -> None:
        """Close an epoch: its line, its weights where they are the best so far, and the state."""
        run = self.run
        value = numbers[f"val_{run.task.monitor}"]
        is_best = run.improves(value)
        if is_best:
            run.best, run.best_epoch = value, run.epoch
        record = {"epoch": run.epoch, "step": run.step, **numbers}
        run.history.append(record)
        refuse_nonfinite_weights(run.evaluated, f"step {run.step}")
        self._name_broken()
        if run.processes.is_main:
            self._epochs.append(record)
            if is_best:
                best = {**cards(run), "model": run.evaluated.state_dict(), "metrics": record}
                save_checkpoint(best, self.out / BEST)
        self.save()
        self.listener.epoch(record, is_best)

    def _name_broken(self) -> None:
        """Every image that a process has skipped since the run was started or resumed, a line each."""
        names = self.run.processes.gather_objects(self.run.loader.broken)
        if names and self.run.processes.is_main:
            path = self.out / BROKEN
            known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            write_lines(path, sorted({*known, *names}))


#: What every line of steps.jsonl tells; all else in it is the task's.
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
