"""Views of a training run: a bar on a terminal, and one line per epoch anywhere else."""

import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from foveal.training.listener import COUNTS, Listener, RunInfo, StepReport, over_classes
from foveal.wording import digits, figure, in_units, many, title

MOST_METRICS = 4  # of an evaluation on one line; the logs have all


def listener_for(stream: TextIO) -> Listener:
    """Return a bar if ``stream`` is a terminal, and plain lines if it is a file or a pipe."""
    console = Console(file=stream, highlight=False)
    return ProgressBar(console) if console.is_terminal else PlainLines(console)


class _Speedometer:
    """Images per second since the beginning and the time left at that speed, evaluations included."""

    def __init__(self, info: RunInfo) -> None:
        self.info, self.started = info, time.monotonic()
        self.total = (info.last_epoch - info.first_epoch + 1) * info.steps_per_epoch - info.steps_done

    def done(self, epoch: int, step: int) -> int:
        """Return the updates of this call at update ``step`` of ``epoch``."""
        return (epoch - self.info.first_epoch) * self.info.steps_per_epoch + step - self.info.steps_done

    def images_per_second(self, done: int) -> float:
        return done * self.info.batch_size / max(time.monotonic() - self.started, 1e-9)

    def seconds_left(self, done: int) -> float:
        return (self.total - done) * (time.monotonic() - self.started) / max(done, 1)


class PlainLines(Listener):
    """One line at the beginning, one after each epoch, and one for each save within an epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def begin(self, info: RunInfo) -> None:
        self.info, self.speed = info, _Speedometer(info)
        _print_opening(self.console, info)

    def saved(self, update: int, path: Path) -> None:
        done = update % self.info.steps_per_epoch
        if done:
            epoch = update // self.info.steps_per_epoch + 1
            self.console.print(f"saved at update {done}/{self.info.steps_per_epoch} of epoch {epoch}", soft_wrap=True)

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        left = self.speed.seconds_left(self.speed.done(record["epoch"], 0) + self.info.steps_per_epoch)
        self.console.print(f"{_epoch_line(record, self.info, is_best)}  {clock(left)} left", soft_wrap=True)

    def notice(self, sentence: str) -> None:
        self.console.print(f"foveal: {sentence}", soft_wrap=True, markup=False)


class ProgressBar(Listener):
    """A bar over the whole run in at most 80 columns, and a line that stays for each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = TextColumn("{task.description}"), BarColumn(bar_width=16), _Facts()
        self.bar = Progress(*columns, console=console, transient=True)

    def begin(self, info: RunInfo) -> None:
        self.info, self.speed = info, _Speedometer(info)
        _print_opening(self.console, info)
        self.task = self.bar.add_task("starting", total=self.speed.total, facts="")
        self.bar.start()

    def step(self, report: StepReport) -> None:
        done = self.speed.done(report.epoch, report.step)
        speed = f"{self.speed.images_per_second(done):.0f} img/s {clock(self.speed.seconds_left(done))} left"
        # The stats come last: a detector has more of them than fit on a line.
        stats = ", ".join(f"{title(name)} {figure(name, value)}" for name, value in report.stats.items())
        facts = f"{speed} loss {digits(report.loss)} {stats}"
        self.bar.update(
            self.task, completed=done, description=f"epoch {report.epoch}/{self.info.last_epoch}", facts=facts
        )

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        self.bar.update(self.task, facts=f"evaluating {done}/{total}")

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        self.console.print(_epoch_line(record, self.info, is_best, self.console.width), soft_wrap=True)

    def notice(self, sentence: str) -> None:
        self.console.print(f"foveal: {sentence}", soft_wrap=True, markup=False)

    def close(self) -> None:
        self.bar.stop()


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")


def _print_opening(console: Console, info: RunInfo) -> None:
    for line in (_opening(info), *info.notices):
        console.print(line, soft_wrap=True, markup=False)


def _opening(info: RunInfo) -> str:
    pieces = f"{many(info.batch_size, 'image')} per update"
    if info.processes > 1 or info.accumulation > 1:
        processes, passes = many(info.processes, "process", "processes"), many(info.accumulation, "pass", "passes")
        pieces += f" ({processes} x {passes})"
    return (
        f"{in_units(info.parameters, 1e6)} M parameters on {info.device}, {many(info.train_size, 'image')}, "
        f"{many(info.last_epoch, 'epoch')} of {many(info.steps_per_epoch, 'update')}, {pieces}{_resumed(info)}"
    )


def _resumed(info: RunInfo) -> str:
    """Return where a run goes on that was resumed."""
    if info.steps_done:
        return f", resuming after update {info.steps_done} of epoch {info.first_epoch}"
    if info.first_epoch > info.last_epoch:
        return ", all done"
    return f", resuming after epoch {info.first_epoch - 1}" if info.first_epoch > 1 else ""


def _epoch_line(record: dict[str, Any], info: RunInfo, is_best: bool, width: int | None = None) -> str:
    """``epoch  3/20  loss 0.743  val loss 0.258, top-1 92.76 %  459 img/s *``; a star marks the best so far.

    Metrics that do not fit into ``width`` columns are left out, the last ones first.
    """
    epoch = f"epoch {record['epoch']:>{len(str(info.last_epoch))}}/{info.last_epoch}"
    names = [name for name in record if name.startswith("val_") and name not in COUNTS]
    names.sort(key=lambda name: name != "val_loss")  # beside that of training
    metrics = [_named(name.removeprefix("val_"), record[name]) for name in names[:MOST_METRICS]]
    start = f"{epoch}  loss {digits(record['train_loss'])}  val "
    end = f"{over_classes(record)}  {record['images_per_second']:.0f} img/s{' *' if is_best else ''}"
    while width is not None and len(metrics) > 1 and len(start + ", ".join(metrics) + end) > width:
        metrics.pop()
    return start + ", ".join(metrics) + end


def _named(name: str, value: float) -> str:
    return f"{title(name)} {figure(name, value)}"


def clock(seconds: float) -> str:
    """Return a time as ``5:09`` or ``1:05:09``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
