"""A resumed run with another number of epochs than it was started with.

From its next update on it has the schedule of a run of the new length: fall, milestones, warm-up, and the moving
average that is fitted to the length. What is done stays done, so the result equals that of the new length from the
start only if all updates before had the same rate in both.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foveal.errors import FovealError
from foveal.training.config import TrainConfig
from foveal.training.optimiser import learning_rates
from foveal.wording import many

#: Settings that recipes and ``length`` derive from the number of epochs.
FOLLOWING = frozenset({"epochs", "milestones", "warmup_epochs", "warmup_steps", "ema_decay"})


def refuse_too_short(config: TrainConfig, steps_per_epoch: int, step: int, epoch: int) -> None:
    """Raise FovealError if a run that has done ``step`` updates and ``epoch`` epochs cannot end as ``config`` says."""
    inside = step > epoch * steps_per_epoch
    begun = epoch + inside
    if config.total_epochs < begun:
        raise FovealError(
            f"The run {'is in' if inside else 'has finished'} epoch {begun} and cannot end after epoch "
            f"{config.total_epochs}: pass --epochs {max(begun - config.cooldown_epochs, 1)} or more."
        )


def changes_of_length(then: Mapping[str, Any], config: TrainConfig, steps_per_epoch: int, step: int) -> list[str]:
    """Return a notice about what another number of epochs changes; none if the number is the same.

    Args:
        then: the settings that the run was saved with, by name.
        config: those that it goes on with; they differ in ``FOLLOWING`` alone.
        step: updates done.
    """
    if then["epochs"] == config.epochs:
        return []
    before = replace(config, **{name: then[name] for name in FOLLOWING})
    sentences = [f"The run ends after epoch {config.total_epochs} instead of {before.total_epochs}."]
    if step < config.total_epochs * steps_per_epoch:
        sentences += [_rate(before, config, steps_per_epoch, step), *_later(before, config)]
        if not _same_so_far(before, config, steps_per_epoch, step):
            sentences.append(f"The result does not equal that of {many(config.total_epochs, 'epoch')} from the start.")
    return [" ".join(sentences)]


def _rate(before: TrainConfig, config: TrainConfig, steps_per_epoch: int, step: int) -> str:
    """Return a sentence about the learning rate of the next update."""
    [now] = learning_rates(config, steps_per_epoch, [step])
    if step == before.total_epochs * steps_per_epoch:
        [last] = learning_rates(before, steps_per_epoch, [step - 1])
        return f"The learning rate was {last:.3g} in the last update and is {now:.3g} in the next."
    [planned] = learning_rates(before, steps_per_epoch, [step])
    instead = ", as before" if f"{now:.3g}" == f"{planned:.3g}" else f" instead of {planned:.3g}"
    return f"The learning rate of the next update is {now:.3g}{instead}."


def _later(before: TrainConfig, config: TrainConfig) -> list[str]:
    """Return sentences about settings that count after the next update."""
    found = []
    if before.milestones != config.milestones:
        found.append(f"It is lowered after {_listed(config)} instead of {_listed(before)}.")
    if before.ema_decay != config.ema_decay:
        found.append(f"The average of weights decays by {config.ema_decay} per update instead of {before.ema_decay}.")
    return found


def _listed(config: TrainConfig) -> str:
    many_of_them = len(config.milestones) > 1
    return f"epoch{'s' * many_of_them} {' and '.join(map(str, config.milestones))}" if config.milestones else "no epoch"


def _same_so_far(before: TrainConfig, config: TrainConfig, steps_per_epoch: int, step: int) -> bool:
    """Return whether the updates done are those of a run of the new length, by the rates at the beginning and in the
    middle of each epoch."""
    half = max(steps_per_epoch // 2, 1)
    done = range(0, step, half)
    rates = (learning_rates(settings, steps_per_epoch, done) for settings in (before, config))
    return before.ema_decay == config.ema_decay and next(rates) == next(rates)
