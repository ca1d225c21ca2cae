"""``device_batch_size="auto"``: the largest device batch that fits into the memory of the device.

On a CUDA device two updates of a copy of the model are tried, with a tenth of the memory kept free for what varies
later. Anywhere else running out of memory ends the process or the machine, so the memory is estimated and held against
what is available. The memory grows with the batch, so the sizes are searched by bisection.
"""

import copy
import gc
import os
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveal.errors import FovealError
from foveal.training.adapting import adapt, check_batch_norm
from foveal.training.batching import Batching, device_batches, split_batch
from foveal.training.config import AUTO, TrainConfig
from foveal.training.optimiser import create_optimizer
from foveal.training.processes import Processes, to_device
from foveal.training.sampling import mix, seed_everything
from foveal.training.task import Task

#: Share of the memory that stays free.
SPARE = 0.1
CGROUP = Path("/sys/fs/cgroup")
UNKNOWN_MEMORY = (
    "The memory of this network depends on the content of the images: pass a number as --device-batch-size, not auto."
)


def choose_batching(
    task: Task, config: TrainConfig, processes: Processes, state: dict[str, Any] | None
) -> tuple[Batching, list[str]]:
    """Return the split of an update, and a sentence about a device batch that was found.

    Args:
        state: of the run that is resumed: a device batch that it found is used again, if it divides evenly.

    Raises:
        FovealError: no split is possible, or not even the smallest device batch fits.
    """
    count = processes.share.count
    if config.device_batch_size != AUTO:
        return split_batch(config.batch_size, count, config.device_batch_size), []
    possible = device_batches(config.batch_size, count)
    if state is not None and state["config"].get("device_batch_size") == AUTO:
        found = state["batching"]["device"]
        if found in possible:
            return split_batch(config.batch_size, count, found), []
    found, place = _find(task, config, processes, possible)
    batching = split_batch(config.batch_size, count, found)
    return batching, [f"The device batch is {found}, the largest that fits into {place}."]


def _find(task: Task, config: TrainConfig, processes: Processes, possible: list[int]) -> tuple[int, str]:
    """Return the largest device batch that fits on every process, and into what."""
    usable = [size for size in possible if _suits(task, config, processes, size)] or possible
    if task.device_memory(usable[0], processes.share.count) is None:
        raise FovealError(UNKNOWN_MEMORY)
    if processes.device.type == "cuda":
        place = f"the memory of {processes.device}"
        largest = _largest(usable, lambda size: _fits_when_tried(task, config, processes, size))
    else:
        available = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        place = f"{available / 2**30:.1f} GiB of free memory, as estimated"
        most = available * (1 - SPARE)
        largest = _largest(usable, lambda size: (task.device_memory(size, processes.share.count) or 0) <= most)
    largest = min(processes.gather_objects([largest]))
    if not largest:
        raise FovealError(
            f"Not even device batches of {usable[0]} fit into {place}: pass --grad-checkpointing, a smaller --size or "
            "a smaller --model."
        )
    return largest, place


def _largest(sizes: list[int], fits: Callable[[int], bool]) -> int:
    """Return the largest of increasing sizes that fits, or 0."""
    count = bisect_left(sizes, True, key=lambda size: not fits(size))
    return sizes[count - 1] if count else 0


def _suits(task: Task, config: TrainConfig, processes: Processes, size: int) -> bool:
    """Return whether a task can be trained with this device batch: mixup needs pairs, and batch norm two images."""
    batching = split_batch(config.batch_size, processes.share.count, size)
    try:
        task.check_split(batching)
        check_batch_norm(task.model, batching, replace(config, sync_bn=False))  # it is tried on its own
    except FovealError:
        return False
    return True


def _fits_when_tried(task: Task, config: TrainConfig, processes: Processes, size: int) -> bool:
    """Return whether two updates with this device batch fit on the CUDA device."""
    try:
        _try(task, config, processes, size)
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _try(task: Task, config: TrainConfig, processes: Processes, size: int) -> None:
    device = processes.device
    batch = _first_batch(task, config, processes, size)
    # A process may run out of memory alone, so none waits for another: batch norm is not synchronised.
    model = adapt(copy.deepcopy(task.model), replace(config, sync_bn=False), processes).train()
    optimizer = create_optimizer(model, config)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    beside = weights * ((processes.share.count > 1) + (config.ema_decay is not None))  # exchanged gradients, average
    spare = int(SPARE * torch.cuda.get_device_properties(device).total_memory)
    reserved = torch.empty(beside + spare, dtype=torch.uint8, device=device)
    batch = to_device(batch, device, config.channels_last)
    seed_everything(mix(config.seed, "device batch"))
    for _ in range(2):  # the optimiser has its state from the first one on
        with processes.autocast(config.precision):
            loss, _stats = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize(device)
    del reserved


def _first_batch(task: Task, config: TrainConfig, processes: Processes, size: int) -> Any:
    batching = split_batch(config.batch_size, processes.share.count, size)
    draws = batching.device * batching.accumulation
    loader = task.train_loader(batching, draws, processes.share, replace(config, workers=0))
    return next(iter(loader.epoch(0, 0)))


def available_memory() -> int:
    """Return the bytes of memory that this process may still take: of the machine, or of its container."""
    import psutil  # which accelerate needs too

    available = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        taken = int((CGROUP / "memory.current").read_text())
        numbers = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return available if limit == "max" else min(available, int(limit) - taken + int(numbers["inactive_file"]))
    except (OSError, ValueError, KeyError):  # there is no container, or one of another kind
        return available
