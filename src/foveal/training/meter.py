"""Means of loss and stats over an epoch and since the last look, with the speed of both."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveal.training.listener import StepReport
from foveal.training.loading import Loader
from foveal.training.processes import Processes


@dataclass(frozen=True)
class _Pass:
    """One forward pass of update ``step`` (from 1)."""

    step: int
    lr: float
    share: float
    """Fraction of the update's images."""
    values: dict[str, Any]
    """Tensors on the device until they are read, then means over all processes."""


class Meter:
    """Collect loss and stats of the passes of one epoch.

    A pass is weighted by its share of an update, so an epoch keeps its mean if its accumulation changes (resumed with
    another number of processes).

    Values are read from the device only at a look or a save, because reading waits for the device. Means are summed
    pass by pass, so they do not depend on the looks, and with ``state`` a resumed epoch ends with the same numbers as
    one that was never stopped.

    Args:
        epoch: Number of the epoch, from 1.
        state: State of a meter of the same epoch, from a checkpoint.
    """

    def __init__(self, epoch: int, state: dict[str, Any] | None = None) -> None:
        state = state or {"totals": {}, "updates": 0.0, "lr": 0.0, "waited": 0.0, "seconds": 0.0, "broken": 0}
        self.epoch = epoch
        self.totals: dict[str, float] = dict(state["totals"])
        self.updates: float = state["updates"]
        self.lr: float = state["lr"]
        """Learning rate of the last update."""
        self.waited: float = state["waited"]
        self._seconds_before: float = state["seconds"]
        self.broken: int = state["broken"]
        """Images skipped because they could not be read, by all processes."""
        self._unseen = [_Pass(*values) for values in state.get("unseen", ())]
        self._broken_here = 0
        self._unread: list[_Pass] = []
        self._started = time.monotonic()
        self._looked = 0.0  # set at the first batch: saving and evaluating are not training
        self._waited_at_look = self.waited

    @property
    def seconds(self) -> float:
        """Time since the epoch began, without the time between a stop and resuming."""
        return self._seconds_before + time.monotonic() - self._started

    def next_batch(self, batches: Iterator[Any], loader: Loader) -> Any:
        """Return the next batch; count the wait as ``waited`` and the images that ``loader`` skips as broken."""
        before, known = time.monotonic(), loader.skipped
        self._looked = self._looked or before
        batch = next(batches)
        self.waited += time.monotonic() - before
        self._broken_here += loader.skipped - known
        return batch

    @property
    def means(self) -> dict[str, float]:
        """Means over the part of the epoch that has been read."""
        return {name: total / self.updates for name, total in self.totals.items()}

    def add(self, step: int, lr: float, share: float, loss: Tensor, stats: dict[str, Tensor]) -> None:
        """Add one forward pass of update ``step``, over ``share`` of its images."""
        values = {"loss": loss.detach(), **{name: value.detach() for name, value in stats.items()}}
        self._unread.append(_Pass(step, lr, share, values))
        self.lr = lr

    def read(self, processes: Processes) -> None:
        """Read the values still on the device, as means over all processes; every process calls it at the same step."""
        if not self._unread:
            return
        names = list(self._unread[0].values)
        numbers = torch.stack([torch.stack([p.values[name].float() for name in names]) for p in self._unread])
        means = processes.sum_rows(numbers.cpu().double()) / processes.share.count
        for one, row in zip(self._unread, means.tolist(), strict=True):
            self._unseen.append(_Pass(one.step, one.lr, one.share, dict(zip(names, row, strict=True))))
            for name, number in zip(names, row, strict=True):
                self.totals[name] = self.totals.get(name, 0.0) + one.share * number
            self.updates += one.share
        self._unread.clear()
        self.broken += int(processes.sum({"broken": self._broken_here})["broken"])
        self._broken_here = 0

    def look(self, processes: Processes, step: int, images: int) -> StepReport:
        """Return means over the passes since the last look; every process calls it at the same step.

        Args:
            step: Updates done in this epoch.
            images: Images per update.
        """
        self.read(processes)
        whole = sum(p.share for p in self._unseen)
        means = {name: sum(p.share * p.values[name] for p in self._unseen) / whole for name in self._unseen[0].values}
        updates, now = len({p.step for p in self._unseen}), time.monotonic()
        report = StepReport(
            epoch=self.epoch,
            step=step,
            update=self._unseen[-1].step,
            loss=means.pop("loss"),
            stats=means,
            lr=self._unseen[-1].lr,
            images_per_second=updates * images / max(now - self._looked, 1e-9),
            data_wait_seconds=(self.waited - self._waited_at_look) / updates,
            memory_bytes=processes.peak_memory(),
        )
        self._unseen.clear()
        self._looked, self._waited_at_look = now, self.waited
        return report

    def state(self) -> dict[str, Any]:
        """Return the state in plain types for a checkpoint; call ``read`` first."""
        return {
            "totals": dict(self.totals),
            "updates": self.updates,
            "lr": self.lr,
            "waited": self.waited,
            "seconds": self.seconds,
            "broken": self.broken,
            "unseen": [(p.step, p.lr, p.share, p.values) for p in self._unseen],
        }
