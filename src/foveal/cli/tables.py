"""``foveal tables``: the results tables of both papers, and what can be counted or measured of them here."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from foveal.cli.console import FAILED, Exit, Json, UsageError, print_json, progress
from foveal.errors import FovealError
from foveal.papers import PaperTable, paper_table, paper_tables
from foveal.papers.comparison import Counted, compare
from foveal.papers.layout import as_csv, as_markdown, as_text, document
from foveal.papers.measured import NOTHING, Measured

Format = Literal["text", "markdown", "csv"]


@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """The options of ``foveal tables``.

    Attributes:
        format: Text of 80 columns, where wide tables are cut into blocks; Markdown; or CSV of one table.
        count: Count parameters and multiply-adds of our networks again, by the rule of each paper, and compare.
        time: Measure throughput and memory of the networks of one table, ours and those that timm has, in one
            interleaved run, and show the ratios to the first of them beside the paper's. For the table of CUDA kernels:
            kernels against plain PyTorch.
        batch: Images per call of --time, 8 by default; per batch of --checkpoint, 64 by default.
        device: For --time and --checkpoint: cpu, cuda, cuda:1, ... Default: cpu for --time, the best one for
            --checkpoint.
        rounds: For --time: counted rounds, after two warm-up rounds; 7 by default.
        no_memory: For --time: do not measure memory, which on a CPU takes a separate process for each network.
        checkpoint: File of a classifier's weights to evaluate in the row of its network: best.pt of a run, or released
            ones. Sets whose folders --data lacks are left out.
        data: For --checkpoint: folder with val/<class>/ or another layout that `foveal evaluate` reads, and with
            imagenet-a, imagenet-r, sketch, imagenetv2-matched-frequency-format-val and imagenet-c for their columns.
        row: For --checkpoint: the row, by its name or its model; for a file that does not say which network it holds.
        workers: For --checkpoint: loading processes.
    """

    format: Format = "text"
    count: bool = False
    time: bool = False
    batch: int | None = None
    device: str | None = None
    rounds: int | None = None
    no_memory: bool = False
    checkpoint: Path | None = None
    data: Path | None = None
    row: str | None = None
    workers: int | None = None
    json: Json = False

    @property
    def measures(self) -> bool:
        return self.time or self.checkpoint is not None


def main(
    name: Annotated[Positional[str], arg(metavar="NAME")] = "",
    options: Annotated[TablesOptions, arg(name="")] = TablesOptions(),
) -> None:
    """The results tables of the TransNeXt and TransXNet papers: our networks, their competitors, all ablations.

    Without a NAME: the list of tables. The figures are the authors' and keep their digits; a question mark stands for
    one that could not be read. With --count the command fails if a count differs from a printed figure and the table
    gives no reason. With --time or --checkpoint figures measured here stand beside the authors'.

    Args:
        name: A table, or several as a shell pattern in quotes.
    """
    _check(options)
    if not name:
        if options.count or options.measures:
            asked = "count" if options.count else "time" if options.time else "checkpoint"
            verb = "count" if options.count else "measure"
            raise FovealError(f"Name the tables to {verb}, such as `foveal tables transnext.imagenet --{asked}`.")
        _list([paper_table(one) for one in paper_tables()], options.format, options.json)
        return
    tables = _matching(name)
    if options.format == "csv" and len(tables) > 1 and not options.json:
        raise FovealError(f"CSV holds one table, and {name!r} names {len(tables)}: choose one of `foveal tables`.")
    if options.measures and len(tables) > 1:
        raise FovealError(f"One table is measured at a time, and {name!r} names {len(tables)}: choose one of them.")
    counts = [_counted(table) if options.count else {} for table in tables]
    measured = [_measured(table, options) for table in tables]
    whole = list(zip(tables, counts, measured, strict=True))
    if options.json:
        print_json([document(*one) for one in whole])
    else:
        shape = {"text": as_text, "markdown": as_markdown, "csv": as_csv}[options.format]
        print("\n".join(shape(*one) for one in whole), end="")
    if any(_differs(table, counted) for table, counted in zip(tables, counts, strict=True)):
        raise Exit(FAILED)


def _check(options: TablesOptions) -> None:
    """Raise UsageError for options that do not fit together."""
    if options.time and options.checkpoint is not None:
        raise UsageError("--time and --checkpoint are two measurements: pass one of them.")
    both, accuracy = "--time or --checkpoint", "--checkpoint"
    for option, value, needs, there in (
        ("--batch", options.batch, both, options.measures),
        ("--device", options.device, both, options.measures),
        ("--rounds", options.rounds, "--time", options.time),
        ("--no-memory", options.no_memory or None, "--time", options.time),
        ("--data", options.data, accuracy, options.checkpoint),
        ("--row", options.row, accuracy, options.checkpoint),
        ("--workers", options.workers, accuracy, options.checkpoint),
    ):
        if value is not None and not there:
            raise UsageError(f"{option} is for {needs}: add that, or leave it out.")
    if options.checkpoint is not None and options.data is None:
        raise UsageError("--checkpoint needs images: pass --data DIR with val/ or another set of the table.")
    for option, number, least in (("--batch", options.batch, 1), ("--workers", options.workers, 0)):
        if number is not None and number < least:
            raise UsageError(f"{option} must be at least {least}, not {number}.")


def _measured(table: PaperTable, options: TablesOptions) -> Measured:
    """Measure what the options ask for; imports networks, which a list of tables need not wait for."""
    if options.time:
        return _timed(table, options)
    if options.checkpoint is None or options.data is None:
        return NOTHING
    import torch

    from foveal.cli.table_accuracy import AccuracyOptions, evaluate_table
    from foveal.tasks.classification.evaluate import EvaluationSettings

    settings = EvaluationSettings(
        batch_size=options.batch or 64,
        workers=2 if options.workers is None else options.workers,
        device=None if options.device is None else torch.device(options.device),
    )
    return evaluate_table(table, AccuracyOptions(options.checkpoint, options.data, options.row), settings)


def _timed(table: PaperTable, options: TablesOptions) -> Measured:
    from foveal.cli.bench import check_machine, prepare_machine
    from foveal.cli.table_times import TimeOptions, subjects_of, time_table

    device, rounds = options.device or "cpu", 7 if options.rounds is None else options.rounds
    subjects_of(table)  # raises what is wrong with the table before the operators are checked
    check_machine(device, rounds, threads=None)
    facts = prepare_machine(device)
    with progress(f"Timing {table.name}") as on_step:
        return time_table(table, TimeOptions(options.batch or 8, device, rounds, not options.no_memory), facts, on_step)


def _matching(pattern: str) -> list[PaperTable]:
    names = [name for name in paper_tables() if fnmatchcase(name, pattern)]
    return [paper_table(name) for name in names or [pattern]]


def _counted(table: PaperTable) -> Counted:
    from foveal.cli.table_counts import count_table  # imports detectors, which a list of tables need not wait for

    with progress(f"Counting {table.name}") as on_cell:
        return count_table(table, on_cell)


def _differs(table: PaperTable, counted: Counted) -> bool:
    return any(one.is_unexplained for cells in compare(table, counted) for one in cells)


def _list(tables: Sequence[PaperTable], format: Format, json: bool) -> None:
    rows = [(table.name, table.number, table.title) for table in tables]
    if json:
        print_json([dict(zip(("name", "table", "title"), row)) for row in rows])
    elif format == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([("name", "table", "title"), *rows])
        print(out.getvalue(), end="")
    elif format == "markdown":
        print("| table | in the paper | shows |\n| --- | --- | --- |")
        print("\n".join(f"| `{name}` | {number} | {title} |" for name, number, title in rows))
    else:
        name_width, number_width = (max(len(row[i]) for row in rows) for i in (0, 1))
        print("\n".join(f"{name:<{name_width}}  {number:>{number_width}}  {title}" for name, number, title in rows))
