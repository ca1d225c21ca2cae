"""Parameter groups, optimiser and learning-rate schedule, all through timm."""

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from foveal.training.config import TrainConfig


def create_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """An optimiser whose groups leave biases, norms and the model's ``no_weight_decay()`` without decay.

    With ``config.layer_decay`` each group carries ``lr_scale = layer_decay ** (layers above it)``, the layers being
    those of the model's ``group_matcher()``; the schedule multiplies by it.
    """
    given: dict[str, Any] = {"betas": config.betas, "eps": config.eps}
    return create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
        **{name: value for name, value in given.items() if value is not None},
    )


def create_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> Scheduler:
    """The learning rate of every update: ``schedule.step_update(n)`` sets it for the update after ``n`` done ones.

    Linear from ``warmup_lr`` to ``lr`` over the warm-up epochs; then, counted from the start of training and not from
    the end of the warm-up, half a cosine from ``lr`` to ``min_lr`` at ``epochs``, and ``min_lr`` during the cooldown;
    or ``lr`` throughout.
    """
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=config.schedule,
        num_epochs=config.epochs,
        cooldown_epochs=config.cooldown_epochs,
        min_lr=config.min_lr,
        warmup_lr=config.warmup_lr,
        warmup_epochs=config.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    schedule.step_update(0)
    return schedule


def base_lr(optimizer: Optimizer) -> float:
    """The schedule's current value, before layer-wise scaling."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)
