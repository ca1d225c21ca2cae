"""The settings of a run held against its length.

Recipes count the warm-up and the span of the moving average in updates, for the set that they were published on. On a
small set the same numbers can exceed the whole run: its rate would never reach the top, its average would stay at the
initial weights. The rule: a warm-up counted in updates takes at most half of the updates before the first milestone (or
the end), the average spans at most a fifth of all updates, and milestones that the run does not reach are left out. A
warm-up asked for in epochs that leaves none at the full rate is refused instead. Intervals of logs and saves need no
rule, since the end of an epoch is always logged and saved.
"""

from dataclasses import replace
from typing import Any

from foveal.errors import FovealError
from foveal.training.batching import updates_per_epoch
from foveal.training.config import TrainConfig

#: A run lasts at least as many spans of the moving average: then less than ``exp(-5)``, 0.7 %, are initial weights.
SPANS = 5
LOWEST_DECAY = 0.5


def fit_to_length(config: TrainConfig, images: int) -> tuple[TrainConfig, list[str]]:
    """Return the settings of a run on ``images`` training images, and a sentence about each one that was changed.

    Raises:
        FovealError: The set has less than one batch, or the warm-up leaves no update at the full rate.
    """
    config, notices = _adapted(config, images)
    _refuse_late_warmup(config)
    return config, notices


def _adapted(config: TrainConfig, images: int) -> tuple[TrainConfig, list[str]]:
    steps = updates_per_epoch(images, config)
    notices = []
    for adapt in (_reached_milestones, _shorter_warmup, _shorter_average):
        config, notice = adapt(config, steps)
        notices += [notice] if notice else []
    return config, [*notices, *images_left_out(config, images)]


def continued(config: TrainConfig, images: int, before: dict[str, Any]) -> tuple[TrainConfig, list[str]]:
    """Return the settings with which a run goes on that was saved with the settings ``before``, as ``fit_to_length``.

    Runs of versions that did not adapt settings end as they began: their epochs leave out what fills no batch. A late
    warm-up is not refused, since the run has begun with it.
    """
    if "drop_last" in before:
        return _adapted(config, images)
    config = replace(config, drop_last=True)
    return config, images_left_out(config, images)


def images_left_out(config: TrainConfig, images: int) -> list[str]:
    """Return a sentence about the images that fill no batch, if there are any."""
    left_out = count_left_out(config, images)
    if not left_out:
        return []
    return [
        f"Each epoch leaves out {left_out:,} of the {images:,} images, others every time, because they fill no batch "
        f"of {config.batch_size:,} (drop_last)."
    ]


def count_left_out(config: TrainConfig, images: int) -> int:
    """Return the number of images that each epoch leaves out."""
    return images % config.batch_size if config.drop_last and _draws_passes(config) else 0


def count_filled(config: TrainConfig, images: int) -> int:
    """Return the number of images of the next pass that fill the last batch of an epoch."""
    return -images % config.batch_size if _draws_passes(config) and not config.drop_last else 0


def _draws_passes(config: TrainConfig) -> bool:
    """Return whether an epoch is a pass over the images."""
    return config.epoch_steps is None and config.sampling is None


def _full_rate_epochs(config: TrainConfig) -> int:
    """Return the number of epochs before the rate is first lowered by a milestone, or all of them."""
    steps_down = config.milestones if config.schedule == "multistep" else ()
    return min((*steps_down, config.epochs))


def _refuse_late_warmup(config: TrainConfig) -> None:
    """Refuse a warm-up that was asked for in epochs and lasts until the rate is lowered, or until the end."""
    full = _full_rate_epochs(config)
    if config.warmup_steps is not None or config.warmup_epochs < full:
        return
    if full == config.epochs < config.total_epochs and config.schedule in ("constant", "multistep"):
        return  # the cooldown has the full rate
    epochs = f"{config.warmup_epochs} epoch{'s' * (config.warmup_epochs != 1)}"
    if full < config.epochs:
        raise FovealError(
            f"A warm-up of {epochs} leaves none at the full rate, which is lowered after epoch {full}: pass fewer "
            "--warmup-epochs."
        )
    raise FovealError(
        f"A warm-up of {epochs} lasts until the end of the {config.epochs} epoch{'s' * (full != 1)}, so that the rate "
        "never reaches its full value: pass fewer --warmup-epochs, or more --epochs."
    )


def _reached_milestones(config: TrainConfig, steps: int) -> tuple[TrainConfig, str | None]:
    reached = tuple(milestone for milestone in config.milestones if milestone < config.total_epochs)
    missed = config.milestones[len(reached) :]
    if config.schedule != "multistep" or not missed:
        return config, None
    return replace(config, milestones=reached), (
        f"The rate is not multiplied by {config.decay_rate:g} after epoch {', '.join(map(str, missed))}: the run ends "
        f"after epoch {config.total_epochs}."
    )


def _shorter_warmup(config: TrainConfig, steps: int) -> tuple[TrainConfig, str | None]:
    full = _full_rate_epochs(config)
    most = full * steps // 2
    if config.warmup_steps is None or config.warmup_steps <= most:
        return config, None
    count = f"{full * steps:,}"
    those = f"all {count}" if full == config.epochs else f"the {count} before the rate is first lowered"
    if most == 0:
        return replace(config, warmup_steps=0), (
            f"The warm-up of {config.warmup_steps:,} update{'s' * (config.warmup_steps != 1)} is left out: it would "
            f"take more than half of {those}."
        )
    return replace(config, warmup_steps=most), (
        f"The warm-up takes {most:,} update{'s' * (most > 1)} instead of {config.warmup_steps:,}: half of {those}."
    )


def _shorter_average(config: TrainConfig, steps: int) -> tuple[TrainConfig, str | None]:
    updates = steps * config.total_epochs
    if not config.ema_decay or updates >= SPANS / (1 - config.ema_decay):
        return config, None
    decay = round(max(1 - SPANS / updates, LOWEST_DECAY), 6)
    if decay >= config.ema_decay:
        return config, None
    return replace(config, ema_decay=decay), (
        f"The average of weights decays by {decay:g} per update instead of {config.ema_decay:g}, so that little of the "
        f"initial weights is left after {updates:,}."
    )
