"""Means of loss and stats over an epoch, and a watch for the loss that is no number."""

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from foveal.errors import FovealError
from foveal.training.listener import StepReport


class _Pass(NamedTuple):
    """One forward pass of update ``step`` (from 1), not yet read from the device."""

    step: int
    lr: float
    values: dict[str, Tensor]


class Meter:
    """Collects what the passes of one epoch say.

    Values are read from the device only at a look, because reading waits for the device. Nothing is saved between two
    looks, so a loss that became NaN is noticed in time.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.totals: dict[str, float] = {}
        self.passes = 0
        self.waited = 0.0
        self._pending: list[_Pass] = []
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """The next batch; the time it kept us waiting counts as ``waited``."""
        before = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - before
        return batch

    def add(self, step: int, lr: float, loss: Tensor, stats: dict[str, Tensor]) -> None:
        """Note one forward pass."""
        self._pending.append(
            _Pass(step, lr, {"loss": loss.detach(), **{name: value.detach() for name, value in stats.items()}})
        )

    def look(self, step_in_epoch: int) -> StepReport:
        """Means over the passes since the last look.

        Raises:
            FovealError: a loss was infinite or not a number; the sentence names its step and learning rate.
        """
        sums: dict[str, float] = {}
        for step, lr, values in self._pending:
            numbers = {name: value.item() for name, value in values.items()}
            self._refuse_nonfinite(numbers["loss"], step, lr)
            for name, number in numbers.items():
                sums[name] = sums.get(name, 0.0) + number
        count, lr = len(self._pending), self._pending[-1].lr
        self._pending.clear()
        self.passes += count
        for name, total in sums.items():
            self.totals[name] = self.totals.get(name, 0.0) + total
        means = {name: total / count for name, total in sums.items()}
        return StepReport(self.epoch, step_in_epoch, means.pop("loss"), means, lr)

    def _refuse_nonfinite(self, loss: float, step: int, lr: float) -> None:
        if not math.isfinite(loss):
            raise FovealError(
                f"The loss became {loss} at step {step} (epoch {self.epoch}, learning rate {lr:.3g}) and training "
                "stopped; what was saved before is untouched: start again with a lower --lr, or with --precision fp32."
            )
