"""Batches for the loop: which sample is drawn when, by which process, with which randomness.

An error inside a loading process is carried to the main process as a value, because an exception that crosses a process
border arrives with a foreign traceback in its text instead of the one sentence it was raised with.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, default_collate

from foveal.errors import FovealError
from foveal.training.seeding import mix, seeded_on_cpu


@dataclass(frozen=True)
class Share:
    """This process's part of a job that ``count`` processes do together."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True)
class Draw:
    """One sample of an epoch and the seed of its augmentation."""

    index: int
    seed: int


@dataclass(frozen=True)
class Failure:
    """A FovealError on its way from a loading process to the main one."""

    text: str


class EpochSampler(Sampler[Draw]):
    """The draws of one process in one epoch, a function of (seed, epoch, share) alone.

    Processes stride through one common order, so the images behind an update are the same for any number of processes.
    ``epoch`` and ``start`` (draws of this process already behind it) are set before iterating; ``len`` is always the
    whole epoch's.

    Args:
        size: samples in the dataset.
        draws: draws of this process in an epoch.
        repeats: augmented views of a sample within an epoch (repeated augmentation, Hoffer et al. 2020, as in DeiT);
            the epoch's length stays, so it sees ``1 / repeats`` of the samples.
    """

    def __init__(self, size: int, draws: int, share: Share, seed: int, repeats: int = 1) -> None:
        self.share, self.draws, self.seed, self.epoch, self.start = share, draws, seed, 0, 0
        self.order: RepeatAugSampler | DistributedSampler
        samples = range(size)
        if repeats > 1:
            self.order = RepeatAugSampler(samples, share.count, share.rank, num_repeats=repeats, selected_round=0)
        else:
            self.order = DistributedSampler(samples, share.count, share.rank)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        self.order.set_epoch(mix(self.seed, "order", self.epoch))
        for position, index in islice(zip(range(self.draws), self.order, strict=False), self.start, None):
            place = position * self.share.count + self.share.rank
            yield Draw(index, mix(self.seed, "draw", self.epoch, place))


class SeededDataset(Dataset):
    """A dataset asked by Draw: the sample's randomness comes from the draw, not from the process that loads it."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, draw: Draw) -> Any:
        with seeded_on_cpu(draw.seed):
            return _attempt(self.samples, draw.index)


class CarryingDataset(Dataset):
    """A dataset asked by plain index, for evaluation."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        return _attempt(self.samples, index)


class Loader:
    """Batches of a dataset, epoch by epoch; ``len`` is the number of batches.

    Iterating raises FovealError with the sentence a sample's loading failed with.
    """

    def __init__(self, loader: DataLoader, sampler: EpochSampler | None = None) -> None:
        self._loader, self._sampler, self._batch = loader, sampler, loader.batch_size or 1

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch ``number`` (from 0), from this process's batch ``start`` on.

        They are the ones that the whole epoch has from there; the images before are not loaded.
        """
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.start = number, start * self._batch
        elif start:
            raise ValueError("an evaluation is never begun in the middle")
        return self._batches()

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def _batches(self) -> Iterator[Any]:
        for batch in self._loader:
            if isinstance(batch, Failure):
                raise FovealError(batch.text)
            yield batch


def train_loader(
    dataset: Any,
    batch: int,
    draws: int,
    share: Share,
    seed: int,
    workers: int,
    repeats: int = 1,
    collate: Callable | None = None,
) -> Loader:
    """Shuffled, augmented batches of ``batch`` samples for one process, ``draws`` samples an epoch."""
    sampler = EpochSampler(len(dataset), draws, share, seed, repeats)
    return Loader(_data_loader(SeededDataset(dataset), sampler, batch, workers, collate), sampler)


def evaluation_loader(dataset: Any, batch: int, share: Share, workers: int, collate: Callable | None = None) -> Loader:
    """Every ``count``-th sample from ``rank`` on, in order: over all processes each sample exactly once, none
    padded."""
    indices = range(share.rank, len(dataset), share.count)
    return Loader(_data_loader(CarryingDataset(dataset), indices, batch, workers, collate))


def _data_loader(dataset: Dataset, sampler: Any, batch: int, workers: int, collate: Callable | None) -> DataLoader:
    workers = min(
        workers, _usable_cpus()
    )  # more would only take turns, and what they load does not depend on their number
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_Collate(collate or default_collate),
        generator=torch.Generator(),  # its own, or each epoch would draw from the run's randomness
    )


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _attempt(samples: Any, index: int) -> Any:
    try:
        return samples[index]
    except FovealError as error:
        return Failure(str(error))


@dataclass(frozen=True)
class _Collate:
    """A batch of samples, or the first failure among them. A class, so that a spawned worker can unpickle it."""

    collate: Callable

    def __call__(self, samples: list[Any]) -> Any:
        return next((sample for sample in samples if isinstance(sample, Failure)), None) or self.collate(samples)
