"""The report at the end of ``foveal train``, on the main process."""

import sys
from pathlib import Path

from foveal.cli.commands.train import RunOptions
from foveal.cli.console import progress
from foveal.errors import FovealError
from foveal.report.findings import look
from foveal.report.page import write_page
from foveal.report.page_next import RunPlace
from foveal.report.page_run import REPORT, RunReport, run_page
from foveal.tasks.task import Task
from foveal.training import Outcome

#: What a page about a run that is saved must not end it with: a device without memory, a disk, images that were moved
#: away, figures that cannot be drawn.
FAILURES = (FovealError, OSError, RuntimeError, ArithmeticError, LookupError, ValueError, TypeError, MemoryError)


def write_report(task: Task, outcome: Outcome, options: RunOptions) -> Path | None:
    """Evaluate the best weights once and write ``report.html`` into the folder of the run; return its path.

    Without one after an interruption, and with ``--no-report``. A failure is one sentence on stderr, since the run
    itself is whole.
    """
    if options.no_report or outcome.interrupted or not outcome.history:
        return None
    try:
        with progress("Evaluating for the report") as on_batch:
            findings = look(task, outcome.best_path, on_batch)
        data = None if options.data is None else str(options.data)
        resume = ["foveal", "train", "--resume", "--out", str(options.folder)]
        place = RunPlace(
            options.folder, outcome.best_path, data, findings.example, resume, outcome.epochs, findings.exports
        )
        report = RunReport.of(task, outcome, findings, place, options.folder)
        return write_page(options.folder / REPORT, run_page(report))
    except KeyboardInterrupt:
        reason = "stopped; foveal train --resume writes it"
    except FAILURES as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    print(f"foveal: No report: {reason}.", file=sys.stderr)
    return None
