"""What the loop tells to whoever listens. What a person sees is the listener's business."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What is about to happen; epochs and steps count from 1."""

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
    """Updates of the first epoch that an earlier call has done."""


@dataclass(frozen=True)
class StepReport:
    """One look at training: means over all processes and the updates since the last look."""

    epoch: int
    step: int
    """Updates done in this epoch."""
    update: int
    """Updates done in all."""
    loss: float
    stats: dict[str, float]
    lr: float
    images_per_second: float
    data_wait_seconds: float
    """What an update waited for its images, on this process."""
    memory_bytes: int
    """The most memory that this process has held: on the GPU where it trains on one."""


class Listener:
    """Hears everything and says nothing; a listener overrides what it wants to show."""

    def begin(self, plan: Plan) -> None:
        """Before the first step."""

    def step(self, report: StepReport) -> None:
        """Every ``log_every`` steps, and at the end of an epoch."""

    def saved(self, update: int, path: Path) -> None:
        """All that a continuation needs has reached the disk; ``update`` updates are in it."""

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        """After each batch of the evaluation that ends an epoch."""

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        """After an epoch: the line of ``metrics.jsonl``."""

    def close(self) -> None:
        """At the end, however it comes."""


class Listeners(Listener):
    """Several listeners as one."""

    def __init__(self, members: Sequence[Listener]) -> None:
        self.members = members

    def begin(self, plan: Plan) -> None:
        for member in self.members:
            member.begin(plan)

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

    def close(self) -> None:
        for member in self.members:
            member.close()
