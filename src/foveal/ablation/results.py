"""The result of a run, kept in its folder, and the results of a table."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from foveal.ablation.plan import SeedRun, TableRun, read_document
from foveal.files import atomic_file
from foveal.training import Outcome

RESULT, TABLE = "result.json", "results.csv"
ADVICE = "make room, and run the same command again; what was saved before is untouched"


@dataclass(frozen=True)
class Result:
    """What a finished run came to.

    Attributes:
        row, seed: of the run.
        last, best: top-1 in percent after the last epoch and after the best; best_epoch counts from 1.
        epochs: trained.
        seconds: of training and evaluation; without the evaluation of epochs before an interruption.
    """

    row: str
    seed: int
    last: float
    best: float
    best_epoch: int
    epochs: int
    seconds: float

    @classmethod
    def of(cls, run: SeedRun, outcome: Outcome, seconds_before: float) -> "Result":
        """Return the result of a run that has ended."""
        last = outcome.history[-1][f"val_{outcome.monitor}"]
        best = last if outcome.best is None else outcome.best
        seconds = round(seconds_before + outcome.seconds, 1)
        return cls(run.row, run.seed, last, best, outcome.best_epoch, outcome.epochs, seconds)

    def write(self, folder: Path) -> None:
        """Write the result into the folder of its run, which is finished then. Raises FovealError."""
        with atomic_file(folder / RESULT, ADVICE, durable=True) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_result(run: SeedRun) -> Result | None:
    """Return the result of a run; None if it is not finished."""
    path = run.folder / RESULT
    if not path.exists():
        return None
    names = [one.name for one in fields(Result)]
    document = read_document(path, names)
    return Result(**{name: document[name] for name in names})


def read_results(plan: TableRun) -> list[Result]:
    """Return the results of all finished runs of a table, row by row."""
    runs = [plan.run(row, seed) for row in plan.slugs for seed in range(plan.seeds)]
    return [result for result in map(read_result, runs) if result is not None]


def as_csv(results: Sequence[Result]) -> str:
    """Return one line per run: row, seed, last, best, best_epoch, epochs, seconds."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [one.name for one in fields(Result)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    return out.getvalue()
