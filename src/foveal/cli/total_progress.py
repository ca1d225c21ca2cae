"""One bar for an evaluation of several parts: which one runs, and what is left in total."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from foveal.tasks.total import Advance


@contextlib.contextmanager
def total_progress(shown: bool = True) -> Iterator[Advance]:
    """Show a bar on stderr and yield its update, called with ``(title, done, total)``; nothing in a file or pipe."""
    console = Console(stderr=True)
    title = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = title, BarColumn(12), TaskProgressColumn(), TimeRemainingColumn(compact=True), TextColumn("left in total")
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden, expand=True) as bar:
        task = bar.add_task("Evaluating", total=None)

        def advance(title: str, done: float, total: float) -> None:
            bar.update(task, description=title, completed=done, total=total)

        yield advance
