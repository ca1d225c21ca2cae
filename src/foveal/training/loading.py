"""Batches for the loop, read by loading processes."""

import atexit
import contextlib
import multiprocessing.util  # noqa: F401 - its handler at exit is registered before ours, and so runs after it
import os
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from foveal.errors import FovealError
from foveal.training.batching import Share
from foveal.training.config import Broken
from foveal.training.processes import NOTICES
from foveal.training.samples import CarryingDataset, Collate, Failure, SeededDataset, Skipped
from foveal.training.sampling import BalancedSampler, EpochSampler, PassSampler
from foveal.training.streaming import (
    ShardedSamples,
    StreamDataset,
    StreamSampler,
    evaluation_layout,
    fitting_workers,
    training_layout,
)


class Started(NamedTuple):
    """What a process has finished of an evaluation: its first ``samples``, of which those ``skipped`` were broken."""

    samples: int = 0
    skipped: tuple[Skipped, ...] = ()


class Loader:
    """Batches of a dataset by epochs; ``len`` is the number of batches of a whole epoch.

    Iterating raises FovealError if a sample cannot be loaded.

    Attributes:
        broken: Names of the images that this process has skipped, each once, in order.
        skipped: Number of times an image was skipped; every epoch counts again.
        left_out: In an evaluation, the dataset indices of the skipped images.
        order: In an evaluation, the dataset indices of this process's samples in order, including those skipped; empty
            in training.
        seen: In an evaluation, how many of this process's samples have arrived, those skipped included.
        cut_by_share: Whether the draws depend on the number of processes and the batch.
    """

    def __init__(
        self,
        loader: DataLoader,
        sampler: Any = None,
        order: Sequence[int] = (),
        complete: bool = False,
        cut_by_share: bool = False,
        start: Started | None = None,
    ) -> None:
        if loader.num_workers:
            # The registry of finalizers keeps PyTorch's loader alive until this one is gone: if they were collected
            # together, its queues would be closed before its processes are asked to end.
            weakref.finalize(self, _end_workers, loader)
            _with_workers.add(self)
        self._loader, self._sampler, self._batch = loader, sampler, loader.batch_size or 1
        self._complete = complete  # whether the samples are the whole data set
        self.order, self.cut_by_share = order, cut_by_share
        self.broken: list[str] = []
        self.skipped = 0
        self.left_out: set[int] = set()
        self._known: set[str] = set()  # those in broken
        self._skipped: list[Skipped] = []
        self._before = Started() if start is None else start
        self.seen = self._before.samples
        self._note(self._before.skipped)

    def __len__(self) -> int:
        return self.batches_before + len(self._loader)

    @property
    def batches_before(self) -> int:
        """Batches that an evaluation had finished before it was stopped, and that do not arrive again."""
        return -(-self._before.samples // self._batch)

    def progress(self) -> Started:
        """Return how far the evaluation at hand has come, for a loader that goes on from there."""
        return Started(self.seen, tuple(self._skipped))

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of epoch ``number`` (from 0), from this process's batch ``start`` on.

        They equal those of the whole epoch; the images before ``start`` are not loaded.
        """
        if self._sampler is not None:
            self._sampler.epoch, self._sampler.start = number, start * self._batch
        elif start:
            raise ValueError("an evaluation cannot start in the middle")
        return self._batches()

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def _batches(self) -> Iterator[Any]:
        self.seen, self._skipped = self._before.samples, list(self._before.skipped)
        arrived = self.seen - len(self._skipped)
        with _notices_held_back():
            arrivals = iter(self._loader)
        for arrival in arrivals:
            if isinstance(arrival, Failure):
                raise FovealError(arrival.text)
            self._note(arrival.broken)
            self.seen = min(self.seen + self._batch, max(len(self.order), self.seen))
            if arrival.batch is not None:
                arrived += 1
                yield arrival.batch
        if self._complete and not arrived and self.broken:
            raise all_broken(self.broken)

    def _note(self, skipped: Iterable[Skipped]) -> None:
        for number, name in skipped:
            self._skipped.append(Skipped(number, name))
            self.skipped += 1
            self.left_out.add(number)
            if name not in self._known:
                self._known.add(name)
                self.broken.append(name)


def all_broken(names: list[str]) -> FovealError:
    """Return the error for an evaluation none of whose images can be read."""
    first = f" (the first is {names[0]})" if names else ""
    return FovealError(f"None of the images can be read{first}: check --data.")


def train_loader(
    dataset: Any,
    batch: int,
    draws: int,
    share: Share,
    seed: int,
    workers: int,
    repeats: int = 1,
    collate: Callable | None = None,
    broken: Broken = "stop",
    pass_by_pass: bool = False,
    classes: Sequence[int] | None = None,
) -> Loader:
    """Create a loader of shuffled, augmented batches of ``batch`` samples for one process, ``draws`` samples per epoch.

    Each epoch has a new order, unless ``pass_by_pass`` or an epoch has more draws than there are samples: then epochs
    of any length continue where the last one ended (of sharded samples they begin anew, and a long one repeats them). A
    broken sample stops the run, or with ``broken="skip"`` another one is drawn instead. Sharded samples are read in
    order (see ``streaming``); then the draws also depend on the share and on ``batch``, never on the workers.

    Args:
        classes: The class of each sample, to draw every class equally often; not for sharded samples.
    """
    gather = Collate(collate or default_collate)
    if isinstance(dataset, ShardedSamples):
        layout = training_layout(draws, batch, share.rank, repeats)
        return _stream_loader(StreamDataset(dataset, layout, (share.rank, share.count), seed, broken, gather), workers)
    sampler: BalancedSampler | PassSampler | EpochSampler
    if classes is not None:
        sampler = BalancedSampler(classes, draws, share, seed, repeats)
    else:
        kind = PassSampler if pass_by_pass or draws * share.count > len(dataset) else EpochSampler
        sampler = kind(len(dataset), draws, share, seed, repeats)
    return Loader(_data_loader(SeededDataset(dataset, broken), sampler, batch, workers, gather), sampler)


def evaluation_loader(
    dataset: Any,
    batch: int,
    share: Share,
    workers: int,
    collate: Callable | None = None,
    broken: Broken = "stop",
    start: Started | None = None,
) -> Loader:
    """Create a loader of every ``count``-th sample from ``rank`` on: over all processes each sample once, unpadded.

    A broken sample stops the evaluation, or with ``broken="skip"`` is left out of its batch. Samples that can only be
    read in order are split into contiguous stretches instead; ``order`` of the loader gives the indices.

    Args:
        start: what was finished before; such samples are not loaded again, unless they can only be read in order.
    """
    gather = Collate(collate or default_collate)
    if not continues(dataset):
        layout = evaluation_layout(sum(dataset.sizes), batch, share.rank, share.count)
        return _stream_loader(StreamDataset(dataset, layout, (share.rank, share.count), None, broken, gather), workers)
    indices = range(share.rank, len(dataset), share.count)
    rest = indices if start is None else indices[start.samples :]
    loader = _data_loader(CarryingDataset(dataset, broken), rest, batch, workers, gather)
    return Loader(loader, order=indices, complete=share.count == 1, start=start)


def continues(dataset: Any) -> bool:
    """Return whether an evaluation of the dataset can start in the middle."""
    return not isinstance(dataset, ShardedSamples) or dataset.random_access


def _stream_loader(dataset: StreamDataset, workers: int) -> Loader:
    sampler, layout = StreamSampler(dataset.layout.batches), dataset.layout
    workers = fitting_workers(min(workers, _usable_cpus()), layout.streams)
    loader = _data_loader(dataset, sampler, None, workers, as_it_is)
    evaluates = dataset.seed is None
    order = layout.in_order() if evaluates else ()
    return Loader(loader, sampler, order, evaluates and dataset.count == 1, cut_by_share=not evaluates)


def _data_loader(dataset: Dataset, sampler: Any, batch: int | None, workers: int, collate: Callable) -> DataLoader:
    workers = min(workers, _usable_cpus())  # more would only take turns
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        generator=torch.Generator(),  # otherwise each epoch would draw from the run's generator
        worker_init_fn=_leave_notices_to_the_main_process,
    )


def _end_workers(loader: DataLoader) -> None:
    """Ask loading processes to end: they ignore the SIGTERM that is sent otherwise."""
    iterator = loader._iterator  # set if the workers persist, as ours do
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]  # as PyTorch's own iterator does


#: Loaders whose processes may be alive.
_with_workers: "weakref.WeakSet[Loader]" = weakref.WeakSet()


@atexit.register
def _end_all_workers() -> None:
    """Run before multiprocessing sends SIGTERM and waits forever: an uncaught error keeps its loader alive."""
    for loader in list(_with_workers):
        _end_workers(loader._loader)


def _leave_notices_to_the_main_process(worker: int) -> None:
    """Ignore signals that schedulers and Ctrl-C send to all processes: obeying them would break the update."""
    for notice in NOTICES:
        signal.signal(notice, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTICES)


@contextlib.contextmanager
def _notices_held_back() -> Iterator[None]:
    """Block signals while loading processes start, until they ignore them: an earlier signal would end them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which has no such signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOTICES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def as_it_is(batch: Any) -> Any:
    """Return a batch that was already collated."""
    return batch


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
