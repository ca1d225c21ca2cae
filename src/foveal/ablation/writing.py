"""The files of a table's results, written together after every run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveal.ablation.layout import as_markdown
from foveal.ablation.plan import TableRun
from foveal.ablation.results import ADVICE, TABLE, as_csv, read_results
from foveal.ablation.summary import Summary, summarise
from foveal.files import atomic_file, file_lock

DOCUMENT, PAGE, LOCK = "summary.json", "summary.md", ".results.lock"


def write_results(plan: TableRun, draw: Callable[[Summary, Path], Any]) -> Summary:
    """Write ``results.csv``, ``summary.json``, ``summary.md`` and what ``draw`` draws from all finished runs
    in the folder, also those of other rows and seeds than ``plan`` has.

    Processes that train the same table write one after another, and each reads the results when it is its turn.

    Raises:
        FovealError: a file cannot be written; it is then as before.
    """
    with file_lock(plan.out / LOCK, ADVICE, wait=True):
        whole = plan.whole()
        results = read_results(whole)
        summary = summarise(whole, results)
        texts = {
            TABLE: as_csv(results),
            DOCUMENT: json.dumps(summary.document(), indent=1) + "\n",
            PAGE: as_markdown(summary),
        }
        for name, text in texts.items():
            with atomic_file(plan.out / name, ADVICE) as part:
                part.write_text(text, encoding="utf-8")
        draw(summary, plan.out)
    return summary
