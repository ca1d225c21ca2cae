"""What ``foveal tables`` does with its options: print the papers' tables, and count or measure what is in them."""

import csv
import io
from collections.abc import Sequence
from fnmatch import fnmatchcase

from foveal.cli.commands.tables import Format, TablesOptions
from foveal.cli.console import FAILED, Exit, UsageError, print_json, progress
from foveal.errors import FovealError
from foveal.papers import PaperTable, paper_table, paper_tables
from foveal.papers.comparison import Counted, compare
from foveal.papers.layout import as_csv, as_markdown, as_text, document
from foveal.papers.measured import NOTHING, Measured


def run(name: str, options: TablesOptions) -> None:
    """Print the tables whose names match, or the list of them; what is not printed in a paper is measured first."""
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
