"""The state of a run: set up from a task and its settings, saved to a checkpoint, and restored from one."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from foveal.errors import FovealError
from foveal.training.adapting import adapt, check_batch_norm, has_batch_norm, normalised_together
from foveal.training.batching import Batching, updates_per_epoch
from foveal.training.checkpoint import FORMAT
from foveal.training.config import FREE_ON_RESUME, TrainConfig
from foveal.training.device_batch import choose_batching
from foveal.training.length import continued, count_filled, count_left_out, fit_to_length
from foveal.training.lengthening import FOLLOWING, changes_of_length, refuse_too_short
from foveal.training.loading import Loader
from foveal.training.meter import Meter
from foveal.training.optimiser import create_optimizer, create_schedule
from foveal.training.processes import Processes, check_precision, start_processes
from foveal.training.task import Task
from foveal.version import __version__


@dataclass
class Run:
    """Everything that changes during training, and what changes it."""

    task: Task
    config: TrainConfig
    """The settings as they are run, fitted to the length of the run."""
    notices: list[str]
    """Sentences about settings that were changed, and about images that are left out."""
    processes: Processes
    batching: Batching
    steps_per_epoch: int
    loader: Loader
    model: nn.Module
    """The bare model, whose weights are saved."""
    wrapped: nn.Module
    """The model as the processes train it."""
    forward: Callable
    """``wrapped``, compiled if asked."""
    average: ModelEmaV3 | None
    optimizer: Optimizer
    schedule: Scheduler
    scaler: torch.amp.GradScaler
    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Epochs done: trained and evaluated."""
    meter: Meter = field(default_factory=lambda: Meter(1))
    """Sums over the current epoch."""
    best: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated: the moving average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def gained_nothing(self) -> bool:
        """Whether the metric that decides has not improved for ``patience`` epochs."""
        patience = self.config.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    @property
    def step_in_epoch(self) -> int:
        """Updates done in the current epoch."""
        return self.step - self.epoch * self.steps_per_epoch

    def improves(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best if self.task.higher_is_better else value < self.best


def set_up(task: Task, config: TrainConfig, state: dict[str, Any] | None = None) -> Run:
    """Join the processes and create the state of a new run, or of one that will ``take_over`` a ``state``.

    Raises:
        FovealError: Settings that cannot work here. Nothing has been written.
    """
    processes = start_processes()
    check_precision(config.precision, processes.device)
    batching, found = choose_batching(task, config, processes, state)
    if state is None:
        config, notices = fit_to_length(config, task.train_size)
    else:
        images = state.get("train_size", task.train_size)  # another number is refused when the state is taken over
        config, notices = continued(config, images, state.get("config", {}))
    steps = updates_per_epoch(task.train_size, config)
    check_batch_norm(task.model, batching, config)
    model = adapt(task.model, config, processes)
    wrapped = processes.distribute(model)
    optimizer = create_optimizer(model, config)
    return Run(
        task=task,
        config=config,
        notices=[*found, *notices],
        processes=processes,
        batching=batching,
        steps_per_epoch=steps,
        loader=task.train_loader(batching, steps * batching.device * batching.accumulation, processes.share, config),
        model=model,
        wrapped=wrapped,
        forward=torch.compile(wrapped) if config.compile else wrapped,
        average=ModelEmaV3(model, config.ema_decay) if config.ema_decay else None,
        optimizer=optimizer,
        schedule=create_schedule(optimizer, config, steps),
        scaler=torch.amp.GradScaler(processes.device.type, enabled=config.precision == "fp16"),
    )


def run_metadata(run: Run) -> dict[str, Any]:
    """Return the content of a checkpoint other than weights and states."""
    return {
        "format": FORMAT,
        "version": __version__,
        "torch": str(torch.__version__),
        "config": asdict(run.config),
        "batching": asdict(run.batching),
        "card": run.task.metadata(),
        "step": run.step,
        "epoch": run.epoch,
        "train_size": run.task.train_size,
    }


def beginning(run: Run) -> dict[str, Any]:
    """Return how a run begins, in plain types: the content of ``run.json``."""
    config, images = run.config, run.task.train_size
    return {
        "version": __version__,
        "settings": asdict(config),
        "batching": asdict(run.batching),
        "card": run.task.metadata(),
        "images": {
            "train": images,
            "left_out": count_left_out(config, images),
            "filled": count_filled(config, images),
        },
        "updates": {"per_epoch": run.steps_per_epoch, "all": run.steps_per_epoch * config.total_epochs},
        "start": None if run.task.start is None else run.task.start.document(),
        "notices": [*run.task.notices, *run.notices],
    }


def state_of(run: Run) -> dict[str, Any]:
    """Return everything that ``take_over`` needs."""
    return {
        **run_metadata(run),
        "model": run.model.state_dict(),
        "ema": None if run.average is None else run.average.module.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "meter": run.meter.state(),
        "best": (run.best, run.best_epoch),
    }


def take_over(run: Run, state: dict[str, Any], *, other_length: bool = False) -> None:
    """Continue from ``state``; the schedule, the next samples and the randomness follow from its step.

    Args:
        other_length: the number of epochs may be another one (see ``lengthening``).

    Raises:
        FovealError: The state is of a run with other settings, or of a ``best.pt``.
    """
    then = _refuse_another_run(run, state, other_length)
    refuse_too_short(run.config, run.steps_per_epoch, state["step"], state["epoch"])
    run.notices += changes_of_length(then, run.config, run.steps_per_epoch, state["step"])
    run.model.load_state_dict(state["model"])
    if run.average is not None:
        run.average.module.load_state_dict(state["ema"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.scaler.load_state_dict(state["scaler"])
    run.step, run.epoch = state["step"], state["epoch"]
    run.best, run.best_epoch = state["best"]
    run.meter = Meter(run.epoch + 1, state.get("meter"))  # older files were saved between epochs
    run.schedule.step_update(run.step)


def _refuse_another_run(run: Run, state: dict[str, Any], other_length: bool) -> dict[str, Any]:
    """Refuse the state of a run that differs in anything that may not change; return its settings by name."""
    if "optimizer" not in state:
        raise FovealError("A best.pt has no optimiser state: resume from the last.pt in the same folder.")
    older = {**asdict(TrainConfig()), "drop_last": True}  # what files that lack newer settings were trained with
    then = {**older, **state["config"], **state["card"]}
    now = {**asdict(run.config), **run.task.metadata()}
    first = ("task", "recipe", "model")  # what the user chose comes before what follows from it
    _refuse_others(first, then, now)
    size = state.get("train_size", run.task.train_size)
    if size != run.task.train_size:  # before settings that may follow from their number
        raise FovealError(
            f"The run was started with {size} training images, not {run.task.train_size}: resume it with the images it "
            "was started with, or start a new run with another --out from its best.pt."
        )
    follows = FOLLOWING if other_length and then["epochs"] != run.config.epochs else frozenset()
    _refuse_others(sorted(now.keys() - FREE_ON_RESUME - follows), then, now)
    _refuse_another_batching(run, state)
    return then


def _refuse_others(names: Iterable[str], then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in names:
        if then.get(name) != now.get(name):
            raise FovealError(
                f"The run was started with {name} = {_short(then.get(name))}, not {_short(now.get(name))}: resume it "
                "with the settings it was started with, or start a new run with another --out."
            )


def _short(value: Any) -> str:
    """Return a setting cut to fit a sentence: there may be a thousand classes."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _refuse_another_batching(run: Run, state: dict[str, Any]) -> None:
    """Refuse another device batch if its images depend on each other: in batch norm or the loss (mixup, detectors)."""
    if "batching" not in state:
        return  # older files lack it
    then, now = Batching(**state["batching"]), run.batching
    if then == now:
        return
    norms = has_batch_norm(run.model) and (
        normalised_together(then, run.config) != normalised_together(now, run.config)
    )
    begun = state["step"] % run.steps_per_epoch > 0
    if run.task.mixes and then.device != now.device:
        what, processes = "loss", False
    elif norms:
        what, processes = "batch norm", run.config.sync_bn
    elif run.loader.cut_by_share and begun:
        what, processes = "half-read epoch of shards", True
    else:
        return
    several = f" on {then.processes} process{'es' * (then.processes > 1)}"
    raise FovealError(
        f"The run was started with device batches of {then.device}{several}, not {now.device} on {now.processes}, and "
        f"its {what} depends on that: resume it with --device-batch-size {then.device}{several * processes}."
    )
