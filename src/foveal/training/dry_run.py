"""What a run would do, from its settings and a model on the meta device: without images, weights or a device."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.training.adapting import check_batch_norm
from foveal.training.batching import Batching, split_batch, updates_per_epoch
from foveal.training.config import AUTO, TrainConfig
from foveal.training.device_batch import UNKNOWN_MEMORY
from foveal.training.footprint import Footprint, footprint
from foveal.training.length import count_filled, count_left_out, fit_to_length
from foveal.training.optimiser import create_optimizer, learning_rates

#: Why a parameter is decayed or not; the first that applies.
FROZEN = "frozen"
LISTED = "in the model's no_weight_decay()"
BIAS = "biases"
VECTOR = "norms and other vectors"
WEIGHT = "weights"
RULES = (WEIGHT, BIAS, VECTOR, LISTED, FROZEN)


@dataclass(frozen=True)
class PlannedParameter:
    """One parameter as the optimiser would treat it."""

    name: str
    shape: tuple[int, ...]
    count: int
    weight_decay: float
    lr_scale: float
    """Factor of the schedule's learning rate: layer-wise decay, or a factor of the settings."""
    rule: str
    """One of ``RULES``."""


@dataclass(frozen=True)
class DryRun:
    """What ``fit`` would do with these settings.

    Attributes:
        config: The settings, fitted to the length of the run.
        notices: Sentences about settings that were changed, and about images that are left out.
        images: Training images; ``steps_per_epoch`` updates visit each of them, unless the settings fix their number.
        left_out: Images that each epoch leaves out because they fill no batch.
        filled: Images of the next pass that fill the last batch of an epoch.
        steps: Updates in total.
        epoch_rates: The schedule's learning rate at the first update of every epoch.
        last_rate: The learning rate of the last update.
        memory: The memory of a device; None if it was not estimated.
    """

    config: TrainConfig
    batching: Batching
    notices: list[str]
    images: int
    left_out: int
    filled: int
    steps_per_epoch: int
    steps: int
    epoch_rates: list[float]
    last_rate: float
    parameters: list[PlannedParameter]
    memory: Footprint | None


def dry_run(
    model: nn.Module,
    config: TrainConfig,
    images: int,
    processes: int,
    step: Callable[[nn.Module, int], Tensor] | None = None,
) -> DryRun:
    """Report what training ``model``, which is on the meta device, on ``images`` images would do.

    Args:
        step: Given a model and a device batch, creates as many images on the CPU and returns their loss; None if memory
            depends on their content.

    Raises:
        FovealError: Settings that ``fit`` would refuse.
    """
    if config.device_batch_size == AUTO and step is None:
        raise FovealError(UNKNOWN_MEMORY)
    fixed = None if config.device_batch_size == AUTO else config.device_batch_size
    batching = split_batch(config.batch_size, processes, fixed)
    config, notices = fit_to_length(config, images)
    if config.device_batch_size == AUTO:
        notices.append(f"The device batch is found when a run starts (auto); {batching.device} stands for it here.")
    check_batch_norm(model, batching, config)
    steps_per_epoch = updates_per_epoch(images, config)
    steps = steps_per_epoch * config.total_epochs
    starts = [epoch * steps_per_epoch for epoch in range(config.total_epochs)]
    *epoch_rates, last_rate = learning_rates(config, steps_per_epoch, [*starts, steps - 1])
    return DryRun(
        config=config,
        batching=batching,
        notices=notices,
        images=images,
        left_out=count_left_out(config, images),
        filled=count_filled(config, images),
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        epoch_rates=epoch_rates,
        last_rate=last_rate,
        parameters=planned_parameters(model, config),
        memory=footprint(model, config, processes, lambda net: step(net, batching.device)) if step else None,
    )


def planned_parameters(model: nn.Module, config: TrainConfig) -> list[PlannedParameter]:
    """Return every parameter with its weight decay and learning-rate factor, as in the optimiser's groups."""
    groups = {id(p): group for group in create_optimizer(model, config).param_groups for p in group["params"]}
    listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
    planned = []
    for name, parameter in model.named_parameters():
        group = groups.get(id(parameter), {"weight_decay": 0.0})
        planned.append(
            PlannedParameter(
                name=name,
                shape=tuple(parameter.shape),
                count=parameter.numel(),
                weight_decay=group["weight_decay"],
                lr_scale=group.get("lr_scale", 1.0),
                rule=_rule(name, parameter, listed) if id(parameter) in groups else FROZEN,
            )
        )
    return planned


def _rule(name: str, parameter: Tensor, listed: set[str]) -> str:
    if name in listed:
        return LISTED
    if name.endswith(".bias"):
        return BIAS
    return VECTOR if parameter.ndim <= 1 else WEIGHT
