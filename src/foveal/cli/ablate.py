"""What ``foveal ablate`` does with its options: run every row of a table with several seeds."""

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foveal.ablation import Summary, TableRun
from foveal.ablation.layout import as_text
from foveal.ablation.results import read_result, read_results
from foveal.ablation.runner import Event, Stopped, refuse_launchers, stopped_by_sigterm, work
from foveal.ablation.workers import work_in_processes
from foveal.ablation.writing import write_results
from foveal.cli.ablate_progress import TableProgress
from foveal.cli.commands.ablate import TableOptions
from foveal.cli.console import UsageError, print_json
from foveal.cli.options import given
from foveal.errors import FovealError
from foveal.report.chart_ablation import draw_ablation
from foveal.tasks.classification.ablations import rows_left_out
from foveal.wording import many

GO_ON = "the same command goes on from the last save"


def run(options: TableOptions, settings: Any) -> None:
    """Run the table of the options; ``settings`` are those of the recipes to change."""
    assert options.table is not None
    changed = given(settings)
    if "seed" in changed:
        raise UsageError("--seed is of one run: pass --seeds with a number of runs.")
    if "freeze" in changed:
        raise UsageError("--freeze is for runs that start from weights, and an ablation does not: leave it out.")
    if options.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {options.jobs}.")
    plan = TableRun.create(
        options.table, rows=options.rows, seeds=options.seeds, out=options.out, data=options.data, settings=changed
    )
    if options.dry_run:
        _show_plan(plan, options.json)
        return
    refuse_launchers()
    _answer(_run(plan, options.jobs), plan, options.json)


def _run(plan: TableRun, jobs: int) -> Summary | None:
    """Train what is missing and return the summary; None after SIGTERM."""
    plan.claim()
    progress = TableProgress(plan, jobs)

    def report(event: Event) -> None:
        progress.show(event)
        if event.result is not None:
            write_results(plan, _draw)

    try:
        with stopped_by_sigterm(), progress:
            if jobs == 1:
                work(plan, report)
            else:
                work_in_processes(plan, jobs, report)
            return write_results(plan, _draw)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Stopped: {GO_ON}") from None
    except Stopped:
        return None


def _draw(summary: Summary, folder: Path) -> None:
    """Draw the results if possible: a table does not fail for lack of matplotlib."""
    try:
        draw_ablation(summary, folder)
    except FovealError as error:
        print(f"foveal: No chart: {error}", file=sys.stderr)


def _answer(summary: Summary | None, plan: TableRun, as_json: bool) -> None:
    if as_json:
        document = {"interrupted": summary is None, "out": str(plan.out)}
        results = [asdict(result) for result in read_results(plan)]
        print_json({**document, "runs": results, "summary": None if summary is None else summary.document()})
    elif summary is None:
        print(f"Stopped, and everything is saved to {plan.out}; {GO_ON}.")
    else:
        print(as_text(summary))
        if summary.missing:
            print("If another process trains the rest, it completes the table; otherwise run the command again.")
        print(f"Written to {plan.out}:")
        print("results.csv, summary.md, summary.json, ablation.png, and a folder for each run.")


def _show_plan(plan: TableRun, as_json: bool) -> None:
    rows = [(row, plan.recipe(plan.run(row.slug, 0))) for row in plan.rows]
    left_out = rows_left_out(plan.table)
    if as_json:
        documents: list[dict[str, Any]] = [
            {
                "row": row.slug,
                "name": row.row.name,
                "recipe": recipe.name,
                "model": recipe.model,
                "model_args": recipe.model_args,
                "finished": [seed for seed in range(plan.seeds) if read_result(plan.run(row.slug, seed))],
            }
            for row, recipe in rows
        ]
        more = {"left_out": left_out, "seeds": plan.seeds, "out": str(plan.out)}
        print_json({**plan.document(), "rows": documents, **more})
        return
    train = rows[0][1].train
    images = "scikit-learn's digits" if plan.data is None else str(plan.data)
    print(f"{plan.name}: {plan.table.title}")
    runs = f"{many(len(plan.runs), 'run')} of {many(train.total_epochs, 'epoch')}"
    print(f"{runs} on {images}, {plan.seeds} for each row:\n")
    width = max(len(row.slug) for row, _ in rows)
    shared = [item for item in rows[0][1].model_args.items() if all(item in r.model_args.items() for _, r in rows)]
    for row, recipe in rows:
        own = [item for item in recipe.model_args.items() if item not in shared]
        print(f"{row.slug:<{width}}  {row.row.name}")
        print(_wrapped(f"{recipe.model}({_arguments(own)})", " " * (width + 2)))
    if shared:
        print(_wrapped(f"All with {_arguments(shared)}.", ""))
    for name, reason in left_out.items():
        print(f"left out: {name}, since {reason}")
    print(f"\nA row alone: foveal train ablation.{plan.name}.{plan.slugs[0]}")


def _arguments(items: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in items)


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, 80, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
