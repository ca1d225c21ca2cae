"""What a person sees of a training run: a bar on a terminal, a line an epoch anywhere else."""

import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from foveal.training.listener import Listener, Plan, StepReport

MOST_METRICS = 4  # of an evaluation, on a line; the logs have all


def listener_for(stream: TextIO) -> Listener:
    """A bar where ``stream`` is a terminal, plain lines where it is a file or a pipe."""
    console = Console(file=stream, highlight=False)
    return ProgressBar(console) if console.is_terminal else PlainLines(console)


class _Speedometer:
    """Images a second since the beginning, and the seconds that are left at that speed; evaluation counts as time."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.started = plan, time.monotonic()
        self.total = (plan.last_epoch - plan.first_epoch + 1) * plan.steps_per_epoch - plan.steps_done

    def done(self, epoch: int, step: int) -> int:
        """Updates of this call, at update ``step`` of ``epoch``."""
        return (epoch - self.plan.first_epoch) * self.plan.steps_per_epoch + step - self.plan.steps_done

    def images_per_second(self, done: int) -> float:
        return done * self.plan.batch_size / max(time.monotonic() - self.started, 1e-9)

    def seconds_left(self, done: int) -> float:
        return (self.total - done) * (time.monotonic() - self.started) / max(done, 1)


class PlainLines(Listener):
    """One line at the beginning, one after each epoch, and one for each save within an epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def begin(self, plan: Plan) -> None:
        self.plan, self.speed = plan, _Speedometer(plan)
        self.console.print(_opening(plan), soft_wrap=True)

    def saved(self, update: int, path: Path) -> None:
        done = update % self.plan.steps_per_epoch
        if done:
            epoch = update // self.plan.steps_per_epoch + 1
            self.console.print(f"saved at update {done}/{self.plan.steps_per_epoch} of epoch {epoch}", soft_wrap=True)

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        left = self.speed.seconds_left(self.speed.done(record["epoch"], 0) + self.plan.steps_per_epoch)
        self.console.print(f"{_epoch_line(record, self.plan, is_best)}  {_clock(left)} left", soft_wrap=True)


class ProgressBar(Listener):
    """A bar over the whole run, in at most 80 columns; a line stays for each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = TextColumn("{task.description}"), BarColumn(bar_width=16), _Facts()
        self.bar = Progress(*columns, console=console, transient=True)

    def begin(self, plan: Plan) -> None:
        self.plan, self.speed = plan, _Speedometer(plan)
        self.console.print(_opening(plan))
        self.task = self.bar.add_task("starting", total=self.speed.total, facts="")
        self.bar.start()

    def step(self, report: StepReport) -> None:
        done = self.speed.done(report.epoch, report.step)
        speed = f"{self.speed.images_per_second(done):.0f} img/s {_clock(self.speed.seconds_left(done))} left"
        # The stats come last: a detector has more of them than a line can hold.
        stats = " ".join(f"{name} {value:.3g}" for name, value in report.stats.items())
        facts = f"{speed} loss {report.loss:.3f} {stats}"
        self.bar.update(
            self.task, completed=done, description=f"epoch {report.epoch}/{self.plan.last_epoch}", facts=facts
        )

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        self.bar.update(self.task, facts=f"evaluating {done}/{total}")

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        self.console.print(_epoch_line(record, self.plan, is_best))

    def close(self) -> None:
        self.bar.stop()


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")


def _opening(plan: Plan) -> str:
    pieces = f"{plan.batch_size} images an update"
    if plan.processes > 1 or plan.accumulation > 1:
        pieces += f" ({plan.processes} processes x {plan.accumulation} passes)"
    epochs, updates = plan.last_epoch - plan.first_epoch + 1, plan.steps_per_epoch
    resumed = f", going on after update {plan.steps_done} of epoch {plan.first_epoch}" if plan.steps_done else ""
    return (
        f"{plan.parameters / 1e6:.1f} M parameters on {plan.device}, {plan.train_size} images, "
        f"{epochs} epoch{'s' * (epochs != 1)} of {updates} update{'s' * (updates != 1)}, {pieces}{resumed}"
    )


def _epoch_line(record: dict[str, Any], plan: Plan, is_best: bool) -> str:
    """``epoch  3/20  loss 0.743  val top1 92.76 top5 100 loss 0.258  459 img/s *``; a star marks the best so far."""
    epoch = f"epoch {record['epoch']:>{len(str(plan.last_epoch))}}/{plan.last_epoch}"
    named = [(name.removeprefix("val_"), value) for name, value in record.items() if name.startswith("val_")]
    metrics = " ".join(f"{name} {value:.4g}" for name, value in named[:MOST_METRICS])
    speed = f"{record['images_per_second']:.0f} img/s"
    return f"{epoch}  loss {record['train_loss']:.4g}  val {metrics}  {speed}{' *' if is_best else ''}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
