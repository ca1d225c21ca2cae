"""What the loop tells to whoever listens. What a person sees is the listener's business."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class StepReport:
    """One look at the loss: means over the updates since the last look."""

    epoch: int
    step: int
    """Updates done in this epoch."""
    loss: float
    stats: dict[str, float]
    lr: float


class Listener:
    """Hears everything and says nothing; a listener overrides what it wants to show."""

    def begin(self, plan: Plan) -> None:
        """Before the first step."""

    def step(self, report: StepReport) -> None:
        """Every ``log_every`` steps, and at the end of an epoch."""

    def evaluating(self, epoch: int, done: int, total: int) -> None:
        """After each batch of the evaluation that ends an epoch."""

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        """After an epoch: the line of ``metrics.jsonl``."""

    def close(self) -> None:
        """At the end, however it comes."""
