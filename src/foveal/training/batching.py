"""The split of work: effective batch = devices x device batch x accumulation steps."""

from dataclasses import dataclass

from foveal.errors import FovealError
from foveal.training.config import TrainConfig

#: The largest device batch that is chosen automatically; the papers trained with 8 x 128.
LARGEST_AUTOMATIC = 128


@dataclass(frozen=True)
class Share:
    """This process's part of a job that ``count`` processes do together."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True)
class Batching:
    """The split of an update: ``device`` images per forward pass, ``accumulation`` passes per update."""

    effective: int
    processes: int
    device: int
    accumulation: int


def split_batch(effective: int, processes: int, device: int | None = None) -> Batching:
    """Split an effective batch over ``processes`` devices.

    If ``device`` is None, the largest device batch that divides evenly and is at most 128 is taken.

    Raises:
        FovealError: No whole number of accumulation steps gives ``effective``, or automatically only steps of a single
            image would. The sentence lists the possible sizes.
    """
    possible = device_batches(effective, processes)
    if device is None:
        device = max(size for size in possible if size <= LARGEST_AUTOMATIC)
        if device == 1 < possible[-1]:  # a prime above the limit
            raise FovealError(
                f"A batch of {effective} on {processes} process{'es' * (processes > 1)} comes only in device batches "
                f"of {' or '.join(map(str, possible))}: pass one of these as --device-batch-size, or another "
                "--batch-size."
            )
    if device not in possible:
        raise FovealError(
            f"Device batches of {device} on {processes} process{'es' * (processes > 1)} cannot make up a batch of "
            f"{effective}: pass --device-batch-size with one of {', '.join(map(str, possible))}."
        )
    return Batching(effective, processes, device, possible[-1] // device)


def device_batches(effective: int, processes: int) -> list[int]:
    """Return the device batches that make up an effective batch on ``processes`` devices, smallest first.

    Raises:
        FovealError: the devices cannot share the batch evenly. The sentence gives the nearest that they can.
    """
    if effective % processes:
        lower = effective - effective % processes
        nearest = [size for size in (lower, lower + processes) if size]
        raise FovealError(
            f"A batch of {effective} cannot be shared evenly by {processes} processes: "
            f"pass --batch-size {' or '.join(map(str, nearest))}, or start another number of processes."
        )
    share = effective // processes
    return [size for size in range(1, share + 1) if share % size == 0]


def updates_per_epoch(images: int, config: TrainConfig) -> int:
    """Return the number of updates per epoch on a training set of ``images`` images: ``epoch_steps``, or those of a
    pass, the last of them filled up or left out.

    Raises:
        FovealError: The set has less than one batch, and ``epoch_steps`` is not set.
    """
    if config.epoch_steps is not None:
        return config.epoch_steps
    if images < config.batch_size:
        raise FovealError(
            f"The training set has {images} images, fewer than one batch of {config.batch_size}: "
            f"pass --batch-size with at most {images}."
        )
    whole, rest = divmod(images, config.batch_size)
    return whole + (rest > 0 and not config.drop_last)
