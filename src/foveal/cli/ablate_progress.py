"""What ``foveal ablate`` shows on stderr while it runs: a line for each finished run, and a bar on a terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from foveal.ablation import SeedRun, TableRun
from foveal.ablation.remaining import seconds_left
from foveal.ablation.results import Result, read_results
from foveal.ablation.runner import Event
from foveal.training.progress import clock
from foveal.wording import many


class TableProgress:
    """The progress of a table; a context, in which the bar is shown."""

    def __init__(self, plan: TableRun, jobs: int) -> None:
        self.plan, self.jobs = plan, jobs
        self.console = Console(stderr=True, highlight=False)
        columns = TextColumn("{task.description}"), BarColumn(bar_width=12), _Facts()
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.results = read_results(plan)
        self.under_way: dict[SeedRun, Event] = {}
        self.said: set[str] = set()

    def __enter__(self) -> "TableProgress":
        self.bar.start()
        self.task = self.bar.add_task(self._counted(), total=len(self.plan.runs), facts="")
        done = len(self.results)
        if done:
            are = "is" if done == 1 else "are"
            self._print(f"{done} of {many(len(self.plan.runs), 'run')} {are} finished already")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def show(self, event: Event) -> None:
        """Show an event: a line for a result or a notice, the bar otherwise."""
        if event.notice:
            if event.notice not in self.said:
                self._print(f"foveal: {event.notice}")
            self.said.add(event.notice)
            return
        self.under_way[event.run] = event
        if event.result is not None:
            del self.under_way[event.run]
            self.results = read_results(self.plan)  # those of other machines too
            self._print(self._finished(event.result))
        done = len(self.results) + sum(one.share for one in self.under_way.values())
        self.bar.update(self.task, description=self._counted(), completed=done, facts=self._facts(event))

    def _counted(self) -> str:
        return f"{len(self.results)}/{many(len(self.plan.runs), 'run')}"

    def _finished(self, result: Result) -> str:
        """``run 4/27: more_heads (row 3 of 9), seed 0: 96.66 %, 0:34; 12:10 left``"""
        rows = self.plan.slugs
        which = f"{result.row} (row {rows.index(result.row) + 1} of {len(rows)}), seed {result.seed}"
        return (
            f"run {len(self.results)}/{len(self.plan.runs)}: {which}: {result.last:.2f} %, {clock(result.seconds)}; "
            f"{self._left()}"
        )

    def _facts(self, event: Event) -> str:
        """What is trained now and how long is left; of several processes the one with the last news."""
        if event.result is not None:
            return self._left()
        rows, run = self.plan.slugs, event.run
        epoch = f" epoch {event.epoch}/{event.epochs}" if event.epochs else ""
        row = f"{run.row} ({rows.index(run.row) + 1}/{len(rows)}) seed {run.seed}"
        return f"{self._left()}  {row}{epoch}"

    def _left(self) -> str:
        finished = {(result.row, result.seed) for result in self.results}
        unfinished = [run for run in self.plan.runs if (run.row, run.seed) not in finished]
        under_way = {run: (event.share, event.seconds) for run, event in self.under_way.items()}
        seconds = seconds_left(unfinished, self.results, under_way, self.jobs)
        return "time left unknown" if seconds is None else f"{clock(seconds)} left"

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")
