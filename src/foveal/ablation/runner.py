"""Run what is missing of a table, by the loop of ``foveal train``.

A run is held by a lock in its folder while it is trained, so that several processes, also on several machines with a
shared folder, take different runs of the same table. What is finished is never repeated, and what was interrupted goes
on from its last save.
"""

import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from foveal.ablation.plan import SeedRun, TableRun
from foveal.ablation.results import ADVICE, Result, read_result
from foveal.errors import FovealError
from foveal.files import file_lock, make_folder
from foveal.tasks.recipes import create_task
from foveal.training import fit
from foveal.training.journal import LAST, METRICS, JsonLines
from foveal.training.listener import Listener, RunInfo, StepReport

CLAIM = ".claim"


class Stopped(BaseException):
    """Raised on SIGTERM, after the run has been saved."""


@dataclass(frozen=True)
class Event:
    """News of a run: how far it is, what it came to, or a sentence about it.

    Attributes:
        run: the run.
        epoch, epochs: the current epoch, from 1, and their number; 0 before the first.
        share: of its updates that are done, from 0 to 1.
        seconds: since it began or was continued.
        result: what it came to, at its end.
        notice: a sentence that a person should read.
    """

    run: SeedRun
    epoch: int = 0
    epochs: int = 0
    share: float = 0.0
    seconds: float = 0.0
    result: Result | None = None
    notice: str = ""


Report = Callable[[Event], None]


def work(plan: TableRun, report: Report) -> None:
    """Train the runs of a table that are neither finished nor held by another process, one after another.

    Raises:
        FovealError: a run cannot be trained; the sentence begins with its row and seed.
        Stopped, KeyboardInterrupt: on SIGTERM and Ctrl-C, after the run has been saved.
    """
    for run in plan.runs:
        if read_result(run) is not None:
            continue
        make_folder(run.folder, ADVICE)
        with file_lock(run.folder / CLAIM, ADVICE) as ours:
            if ours and read_result(run) is None:
                _train(plan, run, report)
        gc.collect()  # the network's memory, and the processes that loaded its images


def _train(plan: TableRun, run: SeedRun, report: Report) -> None:
    recipe, last = plan.recipe(run), run.folder / LAST
    resumes = last.exists()
    before = sum(record["seconds"] for record in JsonLines(run.folder / METRICS).read()) if resumes else 0.0
    report(Event(run))
    try:
        task = create_task(recipe, plan.data, resumes=resumes)
        for notice in task.notices:
            report(Event(run, notice=notice))
        listener = _Reporter(run, report)
        outcome = fit(task, recipe.train, run.folder, listener=listener, resume=last if resumes else None)
    except FovealError as error:
        raise FovealError(f"{run}: {error}") from error
    if outcome.interrupted:
        raise Stopped
    result = Result.of(run, outcome, before)
    result.write(run.folder)
    report(Event(run, outcome.epochs, outcome.epochs, 1.0, outcome.seconds, result))


class _Reporter(Listener):
    """Reports how far a run is."""

    def __init__(self, run: SeedRun, report: Report) -> None:
        self.run, self.report, self.started = run, report, time.monotonic()

    def begin(self, info: RunInfo) -> None:
        self.info = info
        for notice in info.notices:
            self.notice(notice)

    def step(self, report: StepReport) -> None:
        info = self.info
        share = report.update / (info.last_epoch * info.steps_per_epoch)
        self.report(Event(self.run, report.epoch, info.last_epoch, share, time.monotonic() - self.started))

    def notice(self, sentence: str) -> None:
        self.report(Event(self.run, notice=sentence))


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise ``Stopped`` inside the block, where the training loop does not handle it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before: Any = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_launchers() -> None:
    """Raise FovealError under torchrun or accelerate launch, whose processes would train each run together."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise FovealError("foveal ablate starts its own processes: leave torchrun out, and pass --jobs.")
