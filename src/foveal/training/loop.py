"""The training loop: one story for every task.

An epoch is a number of updates; an update is ``accumulation`` forward and backward passes on every process; after each
epoch the model (its moving average where one is kept) is evaluated and everything is saved. What changes meanwhile is
in ``Run``.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.ops import keep_memory
from foveal.training.checkpoint import read_checkpoint, save_atomically
from foveal.training.config import TrainConfig
from foveal.training.listener import Listener, Plan
from foveal.training.log import MetricsLog
from foveal.training.meter import Meter
from foveal.training.optimiser import base_lr
from foveal.training.processes import to_device
from foveal.training.run import Run, cards, set_up, state_of, take_over
from foveal.training.seeding import mix, seed_everything
from foveal.training.task import Task

BEST, LAST, METRICS = "best.pt", "last.pt", "metrics.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        monitor: the metric that decides, ``best`` its best value, ``best_epoch`` when (from 1).
        epochs: epochs done.
        seconds: of this call; a resumed run's earlier time is not in it.
        history: the records of ``metrics.jsonl``, one an epoch.
        best_path, last_path: the two checkpoints.
    """

    monitor: str
    best: float
    best_epoch: int
    epochs: int
    seconds: float
    history: list[dict[str, Any]]
    best_path: Path
    last_path: Path


def fit(
    task: Task, config: TrainConfig, out: Path, *, listener: Listener | None = None, resume: Path | None = None
) -> Outcome:
    """Train ``task`` and leave ``best.pt``, ``last.pt`` and ``metrics.jsonl`` in the folder ``out``.

    The same seed gives the same weights on the same machine, with any number of workers, and a run that was stopped and
    resumed equals one that was not. Ctrl-C may come at any moment: the checkpoints are whole, and KeyboardInterrupt
    goes through.

    Args:
        listener: is told what happens, on the main process; None for silence.
        resume: a ``last.pt`` to go on from, after its last whole epoch.

    Raises:
        FovealError: settings that cannot work, a folder that already holds a run, a loss that is not a number, a disk
            that is full.
    """
    started = time.monotonic()
    if resume is None and (out / LAST).exists():
        raise FovealError(f"{out} already holds a run: pass --resume to continue it, or choose another --out.")
    if resume is not None and not resume.exists():
        raise FovealError(f"There is no run to continue, {resume} does not exist: leave --resume out, or check --out.")
    _check_folder(out)
    run = set_up(task, config)
    if run.processes.device.type == "cpu":
        keep_memory()
    if resume is not None:
        take_over(run, read_checkpoint(resume))
    listener = listener if listener and run.processes.is_main else Listener()
    log = MetricsLog(out / METRICS)
    if run.processes.is_main:
        run.history = log.rewind(run.epoch)
    listener.begin(_plan(run))
    try:
        while run.epoch < config.total_epochs:
            trained = _train_epoch(run, listener)
            metrics = _evaluate(run, listener)
            _record_and_save(run, {**trained, **metrics}, out, log, listener)
    finally:
        listener.close()
    return _outcome(run, out, time.monotonic() - started)


def _train_epoch(run: Run, listener: Listener) -> dict[str, float]:
    """One pass over the training set."""
    run.wrapped.train()
    meter = Meter(run.epoch + 1)
    batches = run.loader.epoch(run.epoch)
    for step in range(1, run.steps_per_epoch + 1):
        seed_everything(mix(run.config.seed, "step", run.step, run.processes.share.rank))
        for is_last in [False] * (run.batching.accumulation - 1) + [True]:
            batch = meter.next_batch(batches)
            with _gradients_exchanged(run, is_last):
                loss, stats = _forward(run, batch)
                run.scaler.scale(loss / run.batching.accumulation).backward()
            meter.add(run.step + 1, base_lr(run.optimizer), loss, stats)
        _update(run)
        if step % run.config.log_every == 0 or step == run.steps_per_epoch:
            report = meter.look(step)
            listener.step(report)
    run.epoch += 1
    return {"lr": report.lr, **_summary(run, meter)}


def _gradients_exchanged(run: Run, exchange: bool) -> contextlib.AbstractContextManager:
    """Processes exchange gradients in the last pass of an update only."""
    return contextlib.nullcontext() if exchange else run.processes.accelerator.no_sync(run.wrapped)


def _forward(run: Run, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    batch = to_device(batch, run.processes.device, run.config.channels_last)
    with run.processes.autocast(run.config.precision):
        return run.task.loss(run.forward, batch)


def _update(run: Run) -> None:
    """Clip, step, forget the gradients; move the average and the learning rate."""
    if run.config.clip_norm is not None:
        run.scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(run.model.parameters(), run.config.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.update(run.model)
    run.step += 1
    run.schedule.step_update(run.step)


def _summary(run: Run, meter: Meter) -> dict[str, float]:
    """Means over all processes, the speed, and the time this process waited for images."""
    seconds = meter.seconds
    totals = run.processes.sum({"passes": float(meter.passes), **meter.totals})
    passes = totals.pop("passes")
    return {
        **{f"train_{name}": total / passes for name, total in totals.items()},
        "seconds": round(seconds, 3),
        "images_per_second": round(run.steps_per_epoch * run.config.batch_size / seconds, 1),
        "data_wait_seconds": round(meter.waited, 3),
    }


def _evaluate(run: Run, listener: Listener) -> dict[str, float]:
    model = run.evaluated.eval()
    with torch.no_grad(), run.processes.autocast(run.config.precision):
        metrics = run.task.evaluate(
            model, run.processes, lambda done, total: listener.evaluating(run.epoch, done, total)
        )
    return {f"val_{name}": value for name, value in metrics.items()}


def _record_and_save(run: Run, numbers: dict[str, float], out: Path, log: MetricsLog, listener: Listener) -> None:
    value = numbers[f"val_{run.task.monitor}"]
    is_best = run.improves(value)
    if is_best:
        run.best, run.best_epoch = value, run.epoch
    record = {"epoch": run.epoch, "step": run.step, **numbers}
    run.history.append(record)
    if run.processes.is_main:
        out.mkdir(parents=True, exist_ok=True)
        log.append(record)
        if is_best:
            save_atomically({**cards(run), "model": run.evaluated.state_dict(), "metrics": record}, out / BEST)
        save_atomically(state_of(run), out / LAST)
    run.processes.wait()
    listener.epoch(record, is_best)


def _check_folder(out: Path) -> None:
    """Refuse now what the first save would fail on; nothing is made yet."""
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise FovealError(f"{out} cannot be written to, because of {existing}: choose another --out.")


def _plan(run: Run) -> Plan:
    return Plan(
        first_epoch=run.epoch + 1,
        last_epoch=run.config.total_epochs,
        steps_per_epoch=run.steps_per_epoch,
        batch_size=run.config.batch_size,
        accumulation=run.batching.accumulation,
        processes=run.processes.share.count,
        device=str(run.processes.device),
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        train_size=run.task.train_size,
    )


def _outcome(run: Run, out: Path, seconds: float) -> Outcome:
    assert run.best is not None  # an epoch has ended
    paths = {"best_path": out / BEST, "last_path": out / LAST}
    return Outcome(run.task.monitor, run.best, run.best_epoch, run.epoch, seconds, run.history, **paths)
