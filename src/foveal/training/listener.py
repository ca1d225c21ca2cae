"""The events of a training run, and the interface of listeners that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """A run as it begins; epochs and steps count from 1."""

    first_epoch: int
    last_epoch: int
    steps_per_epoch: int
    batch_size: int
    accumulation: int
    processes: int
    device: str
    parameters: int
    train_size: int
    steps_done: int = 0
    """Updates of the first epoch that were done before the run was resumed."""
    notices: tuple[str, ...] = ()
    """Sentences about settings that were fitted to the length of the run, and about images that are left out."""


@dataclass(frozen=True)
class StepReport:
    """One look at training: means over all processes and the updates since the last look."""

    epoch: int
    step: int
    """Updates done in this epoch."""
    update: int
    """Updates done in total."""
    loss: float
    stats: dict[str, float]
    lr: float
    images_per_second: float
    data_wait_seconds: float
    """Time that an update waited for its images, on this process."""
    memory_bytes: int
    """Peak memory of this process: on its GPU if it trains on one."""


#: Keys of an epoch's record, from metrics that are means over classes.
SCORED, CLASSES, EXEMPLIFIED = "val_scored_classes", "val_classes", "val_classes_with_examples"
COUNTS = (SCORED, CLASSES, EXEMPLIFIED)


def over_classes(record: Mapping[str, Any]) -> str:
    """Return " over 1 of 2 classes" if the scores of an epoch leave out classes without an example, or "".

    A class without an example may be scored nevertheless: its IoU is 0 where it is predicted. Then this is added.
    """
    scored, classes = record.get(SCORED), record.get(CLASSES)
    if scored is None:
        return ""
    without = scored - record.get(EXEMPLIFIED, scored)
    if scored == classes and not without:
        return ""
    return f" over {scored} of {classes} classes" + (f" ({without} without an example)" * (without > 0))


class Listener:
    """A silent listener; subclasses override the events that they show."""

    def begin(self, info: RunInfo) -> None:
        """Called before the first step."""

    def step(self, report: StepReport) -> None:
        """Called every ``log_every`` steps and at the end of an epoch."""

    def saved(self, update: int, path: Path) -> None:
        """Called when everything that resuming needs has reached the disk, after ``update`` updates."""

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        """Called after each batch of the evaluation at the end of an epoch."""

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        """Called after an epoch, with its line of ``metrics.jsonl``."""

    def notice(self, sentence: str) -> None:
        """Called with each notice of the task that was not known when the run began."""

    def close(self) -> None:
        """Called at the end, also after an error."""


class Listeners(Listener):
    """Several listeners combined."""

    def __init__(self, members: Sequence[Listener]) -> None:
        self.members = members

    def begin(self, info: RunInfo) -> None:
        for member in self.members:
            member.begin(info)

    def step(self, report: StepReport) -> None:
        for member in self.members:
            member.step(report)

    def saved(self, update: int, path: Path) -> None:
        for member in self.members:
            member.saved(update, path)

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        for member in self.members:
            member.evaluating(epoch, done, total)

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        for member in self.members:
            member.epoch(record, is_best)

    def notice(self, sentence: str) -> None:
        for member in self.members:
            member.notice(sentence)

    def close(self) -> None:
        for member in self.members:
            member.close()
