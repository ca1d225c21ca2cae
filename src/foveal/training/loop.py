"""The training loop, the same for every task.

An epoch is a number of updates, and an update is ``accumulation`` forward and backward passes on every process. After
each epoch the model (or its moving average) is evaluated. ``Run`` holds the state that changes; ``Journal`` writes the
files and reports to the listener.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.files import check_writable
from foveal.ops import keep_memory
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import TrainConfig
from foveal.training.finite import Glance, refuse_nonfinite, refuse_nonfinite_gradients
from foveal.training.frozen import rest_frozen
from foveal.training.journal import BEST, LAST, Journal, locked
from foveal.training.listener import Listener, RunInfo
from foveal.training.meter import Meter
from foveal.training.optimiser import base_lr
from foveal.training.processes import Interruption, to_device
from foveal.training.run import Run, set_up, take_over
from foveal.training.sampling import mix, seed_everything
from foveal.training.task import Task


class _Interrupted(Exception):
    """Told to leave where nothing is lost by leaving at once."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        monitor: the metric that decides, ``best`` its best value (None before the first epoch has ended),
            ``best_epoch`` when (from 1, or 0).
        epochs, updates: done.
        interrupted: told to leave (SIGTERM) before the end; everything is saved.
        seconds: of this call; a resumed run's earlier time is not in it.
        history: the records of ``metrics.jsonl``, one per epoch.
        best_path, last_path: the two checkpoints.
        epochs_before: done before this call, by a run that was resumed.
        planned_epochs: of the whole run.
        stopped_early: the metric did not improve for ``patience`` epochs, and epochs were left.
    """

    monitor: str
    best: float | None
    best_epoch: int
    epochs: int
    updates: int
    interrupted: bool
    seconds: float
    history: list[dict[str, Any]]
    best_path: Path
    last_path: Path
    epochs_before: int = 0
    planned_epochs: int = 0
    stopped_early: bool = False


def fit(
    task: Task,
    config: TrainConfig,
    out: Path,
    *,
    listener: Listener | None = None,
    resume: Path | None = None,
    other_length: bool = False,
) -> Outcome:
    """Train ``task`` and leave ``run.json``, ``best.pt``, ``last.pt``, ``metrics.jsonl`` and ``steps.jsonl`` in the
    folder ``out``.

    The same seed gives the same weights on the same machine, with any number of workers, and a run that was stopped at
    any update and resumed equals one that was not. On SIGTERM or SIGUSR1 the current update ends, the run is saved, and
    ``fit`` returns; on Ctrl-C it then raises KeyboardInterrupt. A second signal does not wait; the last save is whole.

    Args:
        listener: Receives the events of the run on the main process.
        resume: A ``last.pt`` to continue from.
        other_length: The run may go on to another number of epochs than it was started with; a notice says what that
            changes.

    Raises:
        FovealError: Settings that cannot work, a folder that already holds a run or in which another process trains, a
            loss or gradient that is not finite, a full disk.
    """
    started = time.monotonic()
    if resume is None and (out / LAST).exists():
        raise FovealError(f"{out} already holds a run: pass --resume to continue it, or choose another --out.")
    if resume is not None and not resume.exists():
        raise FovealError(f"There is no run to continue, {resume} does not exist: leave --resume out, or check --out.")
    check_writable(out)
    state = None if resume is None else read_checkpoint(resume)
    run = set_up(task, config, state)
    if run.processes.device.type == "cpu":
        keep_memory()
    if state is not None:
        take_over(run, state, other_length=other_length)
    before = run.epoch
    journal = Journal(out, run, listener or Listener())
    with locked(out) if run.processes.is_main else contextlib.nullcontext(), Interruption() as interruption:
        journal.rewind()
        if state is None:
            journal.begin()
        try:
            journal.listener.begin(_run_info(run))
            finished = _train(run, journal, interruption)
        finally:
            journal.listener.close()
    if interruption.pressed and not finished:
        raise KeyboardInterrupt
    return _outcome(run, out, before, not finished, time.monotonic() - started)


def _train(run: Run, journal: Journal, interruption: Interruption) -> bool:
    """Train the remaining epochs; return False if the run was asked to stop before their end."""
    while run.epoch < run.config.total_epochs and not _ends_early(run):
        if not _train_epoch(run, journal, interruption):
            return False
        trained = _summary(run)
        try:
            metrics = _evaluate(run, journal, interruption)
        except _Interrupted:
            return False
        run.epoch += 1
        run.meter = Meter(run.epoch + 1)
        journal.epoch({**trained, **metrics})
        journal.notices()
    return True


def _ends_early(run: Run) -> bool:
    """Return whether training has stopped to improve, the same answer on all processes."""
    return run.config.patience is not None and run.processes.any(run.gained_nothing)


def _train_epoch(run: Run, journal: Journal, interruption: Interruption) -> bool:
    """Train the rest of an epoch and save; return False if the run was asked to stop."""
    run.wrapped.train()
    rest_frozen(run.model)
    config, alone = run.config, run.processes.share.count == 1
    batches = run.loader.epoch(run.epoch, run.step_in_epoch * run.batching.accumulation)
    while run.step_in_epoch < run.steps_per_epoch:
        _train_step(run, batches)
        done = run.step_in_epoch
        ends, looks = done == run.steps_per_epoch, done % config.log_every == 0
        if looks or ends:
            journal.step(run.meter.look(run.processes, done, config.batch_size))
        leaves = (alone or looks or ends) and interruption.agreed(run.processes)  # several ask when they synchronise
        if ends or leaves or (config.save_steps and done % config.save_steps == 0):
            journal.save()
        if leaves:
            return False
    return True


def _train_step(run: Run, batches: Iterator[Any]) -> None:
    """Perform one update from the next ``accumulation`` batches."""
    for number in range(run.batching.accumulation):
        batch = run.meter.next_batch(batches, run.loader)
        _train_pass(run, number, to_device(batch, run.processes.device, run.config.channels_last))
    _update(run)


def _train_pass(run: Run, number: int, batch: Any) -> None:
    """Perform pass ``number`` of an update: its gradients are accumulated."""
    step, lr, share = run.step + 1, base_lr(run.optimizer), 1 / run.batching.accumulation
    with _gradients_exchanged(run, number == run.batching.accumulation - 1):
        loss, stats = _forward(run, number, run.forward, batch)
        glance = Glance(loss)
        run.scaler.scale(loss / run.batching.accumulation).backward()
    refuse_nonfinite(glance.number(), _where(run), run.model, lambda: _forward(run, number, run.model, batch))
    run.meter.add(step, lr, share, loss, stats)


def _where(run: Run) -> str:
    """Return the current update in words."""
    return f"step {run.step + 1} (epoch {run.epoch + 1}, learning rate {base_lr(run.optimizer):.3g})"


def _gradients_exchanged(run: Run, exchange: bool) -> contextlib.AbstractContextManager:
    """Return a context in which processes exchange gradients, as in the last pass of an update, or do not."""
    return contextlib.nullcontext() if exchange else run.processes.accelerator.no_sync(run.wrapped)


def _forward(run: Run, number: int, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the forward pass ``number`` of this update; it is seeded, so that it can be repeated."""
    later = [number] if number else []
    seed_everything(mix(run.config.seed, "step", run.step, run.processes.share.rank, *later))
    with run.processes.autocast(run.config.precision):
        return run.task.loss(model, batch)


def _update(run: Run) -> None:
    """Clip and apply the gradients; update the average and the learning rate."""
    run.scaler.unscale_(run.optimizer)
    looks = _looks_at_gradients(run)
    if looks or run.config.clip_norm:
        norm = nn.utils.get_total_norm([p.grad for p in run.model.parameters() if p.grad is not None])
        if looks:
            refuse_nonfinite_gradients(norm.item(), _where(run), run.model)
        if run.config.clip_norm:
            nn.utils.clip_grads_with_norm_(run.model.parameters(), run.config.clip_norm, norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.update(run.model)
    run.step += 1
    run.schedule.step_update(run.step)


def _looks_at_gradients(run: Run) -> bool:
    """Whether the norm of the gradients is read before this update.

    On a GPU reading waits for the backward pass, while nothing is queued. So only updates that are logged or saved are
    looked at there, when the host waits anyway; in between, the next loss shows it.
    """
    if run.scaler.is_enabled():  # it skips an update that is not finite, and lowers its scale
        return False
    done, config = run.step_in_epoch + 1, run.config
    intervals = (config.log_every, run.steps_per_epoch, config.save_steps)
    return not run.processes.is_asynchronous or any(every and done % every == 0 for every in intervals)


def _evaluate(run: Run, journal: Journal, interruption: Interruption) -> dict[str, float]:
    """Evaluate the model; raise _Interrupted if a single process is asked to stop. Several finish, to stay together."""

    def on_batch(done: int, total: int) -> None:
        if interruption.requested and run.processes.share.count == 1:
            raise _Interrupted
        journal.listener.evaluating(run.epoch + 1, done, total)

    model = run.evaluated.eval()
    with torch.no_grad(), run.processes.autocast(run.config.precision):
        metrics = run.task.evaluate(model, run.processes, on_batch)
    return {f"val_{name}": value for name, value in metrics.items()}


def _summary(run: Run) -> dict[str, float]:
    """Return an epoch's means over all processes, its speed, and the time this process waited for images."""
    meter, seconds = run.meter, run.meter.seconds
    return {
        "lr": meter.lr,
        **{f"train_{name}": mean for name, mean in meter.means.items()},
        "seconds": round(seconds, 3),
        "images_per_second": round(run.steps_per_epoch * run.config.batch_size / seconds, 1),
        "data_wait_seconds": round(meter.waited, 3),
        **({"broken_images": meter.broken} if run.config.broken == "skip" else {}),
    }


def _run_info(run: Run) -> RunInfo:
    return RunInfo(
        first_epoch=run.epoch + 1,
        last_epoch=run.config.total_epochs,
        steps_per_epoch=run.steps_per_epoch,
        batch_size=run.config.batch_size,
        accumulation=run.batching.accumulation,
        processes=run.processes.share.count,
        device=str(run.processes.device),
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        train_size=run.task.train_size,
        steps_done=run.step_in_epoch,
        notices=tuple(run.notices),
    )


def _outcome(run: Run, out: Path, epochs_before: int, interrupted: bool, seconds: float) -> Outcome:
    planned = run.config.total_epochs
    return Outcome(
        run.task.monitor, run.best, run.best_epoch, run.epoch, run.step, interrupted, seconds, run.history,
        best_path=out / BEST, last_path=out / LAST, epochs_before=epochs_before, planned_epochs=planned,
        stopped_early=not interrupted and run.epoch < planned,
    )  # fmt: skip
