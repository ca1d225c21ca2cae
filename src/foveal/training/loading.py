"""Batches for the loop: which sample is drawn when, by which process, with which randomness."""

import atexit
import contextlib
import multiprocessing.util  # noqa: F401 - its handler at exit is registered before ours, and so runs after it
import os
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from foveal.errors import FovealError
from foveal.training.batching import Share
from foveal.training.config import Broken
from foveal.training.interruption import NOTICES
from foveal.training.samples import CarryingDataset, Collate, Failure, SeededDataset, Skipped
from foveal.training.sampling import EpochSampler, PassSampler
from foveal.training.streaming import (
    ShardedSamples,
    StreamDataset,
    StreamSampler,
    evaluation_layout,
    fitting_workers,
    training_layout,
)


class Loader:
    """Batches of a dataset, epoch by epoch; ``len`` is the number of batches of a whole one.

    Iterating raises FovealError with the sentence a sample's loading failed with.

    Attributes:
        broken: names of the images skipped in the batches of this process so far, each once, in the order met.
        skipped: how often an image was skipped in these batches: every epoch counts again.
        left_out: of an evaluation, the indices in the dataset of the skipped ones.
        order: of an evaluation, the indices in the dataset of this process's samples, in the order in which they
            come (those skipped included); empty of training.
        cut_by_share: whether what is drawn depends on the number of processes and the batch.
    """

    def __init__(
        self,
        loader: DataLoader,
        sampler: Any = None,
        order: Sequence[int] = (),
        complete: bool = False,
        cut_by_share: bool = False,
    ) -> None:
        if loader.num_workers:
            # The registry of finalizers keeps PyTorch's loader whole until this one is gone: collected together, its
            # queues would be closed before its processes are told to end.
            weakref.finalize(self, _end_workers, loader)
            _with_workers.add(self)
        self._loader, self._sampler, self._batch = loader, sampler, loader.batch_size or 1
        self._complete = complete  # whether the samples are the whole data set's
        self.order, self.cut_by_share = order, cut_by_share
        self.broken: list[str] = []
        self.skipped = 0
        self.left_out: set[int] = set()
        self._known: set[str] = set()  # those in broken

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
        arrived = 0
        with _notices_held_back():
            arrivals = iter(self._loader)
        for arrival in arrivals:
            if isinstance(arrival, Failure):
                raise FovealError(arrival.text)
            self._note(arrival.broken)
            if arrival.batch is not None:
                arrived += 1
                yield arrival.batch
        if self._complete and not arrived and self.broken:
            raise all_broken(self.broken)

    def _note(self, skipped: Iterable[Skipped]) -> None:
        for number, name in skipped:
            self.skipped += 1
            self.left_out.add(number)
            if name not in self._known:
                self._known.add(name)
                self.broken.append(name)


def all_broken(names: list[str]) -> FovealError:
    """What to raise where no image of an evaluation could be read."""
    first = f", {names[0]} the first of them" if names else ""
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
) -> Loader:
    """Shuffled, augmented batches of ``batch`` samples for one process, ``draws`` samples an epoch.

    Each epoch begins a new order, unless ``pass_by_pass``: then epochs of any length go on where the last one ended
    (of sharded samples they begin anew, and a long one goes round them). A broken sample is the end, or with
    ``broken="skip"`` another one is drawn in its place. Sharded samples are read in order (see ``streaming``); then
    what is drawn depends on the share and on ``batch`` too, never on the workers.
    """
    gather = Collate(collate or default_collate)
    if isinstance(dataset, ShardedSamples):
        layout = training_layout(draws, batch, share.rank, repeats)
        return _stream_loader(StreamDataset(dataset, layout, (share.rank, share.count), seed, broken, gather), workers)
    kind = PassSampler if pass_by_pass else EpochSampler
    sampler = kind(len(dataset), draws, share, seed, repeats)
    return Loader(_data_loader(SeededDataset(dataset, broken), sampler, batch, workers, gather), sampler)


def evaluation_loader(
    dataset: Any,
    batch: int,
    share: Share,
    workers: int,
    collate: Callable | None = None,
    broken: Broken = "stop",
) -> Loader:
    """Every ``count``-th sample from ``rank`` on, in order: over all processes each sample exactly once, none
    padded.

    A broken sample is the end, or with ``broken="skip"`` left out; its batch is smaller by one. Samples that can only
    be read in order come in stretches instead; ``order`` of the loader tells which.
    """
    gather = Collate(collate or default_collate)
    if isinstance(dataset, ShardedSamples) and not dataset.random_access:
        layout = evaluation_layout(sum(dataset.sizes), batch, share.rank, share.count)
        return _stream_loader(StreamDataset(dataset, layout, (share.rank, share.count), None, broken, gather), workers)
    indices = range(share.rank, len(dataset), share.count)
    loader = _data_loader(CarryingDataset(dataset, broken), indices, batch, workers, gather)
    return Loader(loader, order=indices, complete=share.count == 1)


def _stream_loader(dataset: StreamDataset, workers: int) -> Loader:
    sampler, layout = StreamSampler(dataset.layout.batches), dataset.layout
    workers = fitting_workers(min(workers, _usable_cpus()), layout.streams)
    loader = _data_loader(dataset, sampler, None, workers, as_it_is)
    evaluates = dataset.seed is None
    order = layout.in_order() if evaluates else ()
    return Loader(loader, sampler, order, evaluates and dataset.count == 1, cut_by_share=not evaluates)


def _data_loader(dataset: Dataset, sampler: Any, batch: int | None, workers: int, collate: Callable) -> DataLoader:
    workers = min(workers, _usable_cpus())  # more would only take turns, and loads the same
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        generator=torch.Generator(),  # its own, or each epoch would draw from the run's randomness
        worker_init_fn=_leave_notices_to_the_main_process,
    )


def _end_workers(loader: DataLoader) -> None:
    """End loading processes by telling them to: they ignore the SIGTERM that comes where nobody has told them."""
    iterator = loader._iterator  # where the workers persist, as ours do
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]  # PyTorch's own way, which its end of an iterator takes


#: Loaders whose processes may be alive.
_with_workers: "weakref.WeakSet[Loader]" = weakref.WeakSet()


@atexit.register
def _end_all_workers() -> None:
    """Before multiprocessing sends that SIGTERM and waits for ever: an uncaught error keeps its loader alive."""
    for loader in list(_with_workers):
        _end_workers(loader._loader)


def _leave_notices_to_the_main_process(worker: int) -> None:
    """Schedulers and Ctrl-C tell every process of a job; a loading process that obeyed would break the update."""
    for notice in NOTICES:
        signal.signal(notice, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTICES)


@contextlib.contextmanager
def _notices_held_back() -> Iterator[None]:
    """Loading processes that are started here inherit that notices wait, until they ignore them: one that came before
    would end them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which has no such signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOTICES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def as_it_is(batch: Any) -> Any:
    """A batch that was put together where it was read."""
    return batch


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
