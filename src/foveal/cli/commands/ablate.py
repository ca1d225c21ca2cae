"""The options of ``foveal ablate``, and the list of tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from tyro.conf import Positional, arg

from foveal.cli.console import Json, print_json
from foveal.cli.lists import ablations
from foveal.cli.options import overrides_of
from foveal.cli.paths import check_data
from foveal.papers import paper_table
from foveal.training.config import TrainConfig
from foveal.wording import many

Overrides: TypeAlias = overrides_of(TrainConfig)  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The table: which rows, how often, on which images, and where.

    Attributes:
        table: Name of the table; without one, all are listed.
        seeds: Runs of each row, with the seeds 0, 1, 2 and so on.
        rows: Rows to run, by the names that --dry-run shows or the paper's; all by default.
        data: Images to train the rows' own networks on, such as the folder cifar-100-python; without them, small forms
            of the networks are trained on handwritten digits.
        out: Folder of the runs and results; runs/ablation.TABLE if left out.
        jobs: Processes that train at a time on this machine, each with its share of the threads.
        dry_run: List the rows and what they would train, and do nothing.
    """

    table: Annotated[Positional[str | None], arg(metavar="TABLE")] = None
    seeds: int = 3
    rows: tuple[str, ...] = ()
    data: Path | None = None
    out: Path | None = None
    jobs: int = 1
    dry_run: bool = False
    json: Json = False


def main(
    options: Annotated[TableOptions, arg(name="")],
    settings: Annotated[Overrides, arg(name="")],  # type: ignore[valid-type]
) -> None:
    """Run an ablation of a paper: every row of a table, several times, by the same loop and settings.

    The folder gets a run per row and seed, as of foveal train, and after each of them results.csv, summary.md,
    summary.json and ablation.png: mean and deviation of each row beside the paper's figure, and whether the difference
    to the paper's own row is significant.
    The same command goes on after an interruption, and repeats nothing. It may run on several machines at once on a
    shared folder, provided that its file system has locks; each takes other runs. More --seeds and --rows may follow
    later. On SIGTERM and Ctrl-C the runs are saved; the exit code is 0 after SIGTERM and 130 after Ctrl-C.
    """
    if options.table is None:
        _list_tables(options.json)
        return
    paper_table(options.table)  # raises the error about an unknown name before anything slow is imported
    check_data(options.data)
    from foveal.cli.ablate import run

    run(options, settings)


def _list_tables(as_json: bool) -> None:
    rows = [(name, count, paper_table(name).title) for name, count in ablations().items()]
    if as_json:
        print_json([dict(zip(("table", "rows", "title"), row)) for row in rows])
        return
    width = max(len(name) for name, _, _ in rows)
    for name, count, title in rows:
        print(f"{name:<{width}}  {many(count, 'row'):<6}  {title}")
    print("\n`foveal ablate TABLE` runs one, `foveal ablate TABLE --dry-run` lists its rows.")
