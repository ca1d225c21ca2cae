"""Parameter groups, optimiser and learning-rate schedule, through timm."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from foveal.errors import FovealError
from foveal.training.config import TrainConfig


def create_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Create an optimiser that applies no decay to biases, norms and the model's ``no_weight_decay()``.

    With ``config.layer_decay`` each group has ``lr_scale = layer_decay ** (layers above it)``, with the layers of the
    model's ``group_matcher()``; with ``config.lr_factors`` it is the factor of its parameters. The schedule multiplies
    by it.

    Raises:
        FovealError: A factor is for names that no parameter has.
    """
    given: dict[str, Any] = {"betas": config.betas, "eps": config.eps}
    factors: dict[str, Any] = {}
    if config.lr_factors:
        factors["param_group_fn"] = lambda net: factor_groups(net, config)
    return create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
        **factors,
        **{name: value for name, value in given.items() if value is not None},
    )


def factor_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return groups by weight decay and learning-rate factor, in the order of the model's parameters."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in config.lr_factors:
        if not any(name.startswith(prefix) for name in names):
            raise FovealError(f"lr_factors names {prefix!r}, which no parameter's name begins with ({names[0]}, ...).")
    listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim <= 1 or name.endswith(".bias") or name in listed
            key = (0.0 if spared else config.weight_decay, _factor(name, config.lr_factors))
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, "lr_scale": factor} for (decay, factor), members in groups.items()
    ]


def _factor(name: str, factors: dict[str, float]) -> float:
    matching = [prefix for prefix in factors if name.startswith(prefix)]
    return factors[max(matching, key=len)] if matching else 1.0


def create_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> Scheduler:
    """Create the learning-rate schedule: ``schedule.step_update(n)`` sets the rate of the update after ``n`` others.

    Linear from ``warmup_lr`` to ``lr`` during the warm-up; then, counted from the start of training and not from the
    end of the warm-up:

    - cosine: half a cosine from ``lr`` to ``min_lr`` at ``epochs``, and ``min_lr`` during the cooldown;
    - poly: ``(1 - done / all) ** power`` of the way from ``min_lr`` to ``lr``, likewise;
    - multistep: ``lr``, times ``decay_rate`` from each milestone on;
    - constant: ``lr`` throughout.
    """
    warmup = config.warmup_epochs * steps_per_epoch if config.warmup_steps is None else config.warmup_steps
    common: dict[str, Any] = dict(
        warmup_t=warmup, warmup_lr_init=config.warmup_lr, warmup_prefix=False, t_in_epochs=False
    )
    whole = config.epochs * steps_per_epoch
    # There is one cycle, so that its decay changes nothing; without one timm warns about runs of one update.
    falling: dict[str, Any] = dict(t_initial=whole, lr_min=config.min_lr, cycle_decay=0.5)
    schedule: Scheduler
    if config.schedule == "cosine":
        schedule = CosineLRScheduler(optimizer, **falling, **common)
    elif config.schedule == "poly":
        schedule = PolyLRScheduler(optimizer, power=config.power, **falling, **common)
    elif config.schedule == "multistep":
        # timm's milestone m is the first update counted from 1 that it holds for, ours counts updates done
        starts = [epoch * steps_per_epoch + 1 for epoch in config.milestones]
        schedule = MultiStepLRScheduler(optimizer, decay_t=starts, decay_rate=config.decay_rate, **common)
    else:
        schedule = StepLRScheduler(optimizer, decay_t=1, decay_rate=1.0, **common)
    schedule.step_update(0)
    return schedule


def base_lr(optimizer: Optimizer) -> float:
    """Return the schedule's current value, without a group's factor."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)


def learning_rates(config: TrainConfig, steps_per_epoch: int, updates: Iterable[int]) -> list[float]:
    """Return the schedule's learning rate at the given updates, counted from 0."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = create_schedule(optimizer, config, steps_per_epoch)
    rates = []
    for update in updates:
        schedule.step_update(update)
        rates.append(base_lr(optimizer))
    return rates
