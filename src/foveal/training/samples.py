"""Samples as a loading process makes them, and what becomes of a broken one.

What cannot be loaded is carried to the main process as a value, because an exception that crosses a process border
arrives with a foreign traceback in its text instead of the one sentence it was raised with.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.training.config import Broken
from foveal.training.seeding import mix, seeded_on_cpu

#: So many samples drawn one after the other and all broken: then not a few files are broken, but the data set is.
ATTEMPTS = 100


class BrokenSample(FovealError):
    """A sample that cannot be read, ``name`` by its own; what ``broken="skip"`` passes over."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name

    def __reduce__(self) -> tuple:
        return type(self), (self.name, str(self))


@dataclass(frozen=True)
class Draw:
    """One sample of an epoch and the seed of its augmentation."""

    index: int
    seed: int


@dataclass(frozen=True)
class Failure:
    """A FovealError on its way from a loading process to the main one."""

    text: str


class Skipped(NamedTuple):
    """A broken sample that was passed over: its number in the dataset (of a stream: in its row), and its name."""

    number: int
    name: str


class Loaded(NamedTuple):
    """A sample, or None where it is left out, and the broken ones met on the way to it."""

    sample: Any
    broken: tuple[Skipped, ...] = ()


class Arrival(NamedTuple):
    """A batch, or None where all of it is broken, and the broken samples."""

    batch: Any
    broken: tuple[Skipped, ...] = ()


class SeededDataset(Dataset):
    """A dataset asked by Draw: the sample's randomness comes from the draw, not from the process that loads it.

    A broken sample that is skipped gives its place to another one, which follows from the draw as well.
    """

    def __init__(self, samples: Any, broken: Broken = "stop") -> None:
        self.samples, self.broken = samples, broken

    def __getitem__(self, draw: Draw) -> Loaded | Failure:
        size = len(self.samples)
        others = (mix(draw.seed, "instead", attempt) % size for attempt in range(1, ATTEMPTS))
        return first_whole((draw.index, *others), self.samples.__getitem__, draw.seed, self.broken)


class CarryingDataset(Dataset):
    """A dataset asked by plain index, for evaluation; a broken sample that is skipped is left out."""

    def __init__(self, samples: Any, broken: Broken = "stop") -> None:
        self.samples, self.broken = samples, broken

    def __getitem__(self, index: int) -> Loaded | Failure:
        return whole_or_none(index, self.samples.__getitem__, self.broken)


def first_whole(candidates: Iterable[int], load: Callable, seed: int, broken: Broken) -> Loaded | Failure:
    """The first candidate that ``load`` can load, with the randomness of ``seed``."""
    broken_ones: list[Skipped] = []
    for candidate in candidates:
        with seeded_on_cpu(seed):
            result = whole_or_none(candidate, load, broken)
        if isinstance(result, Failure) or not result.broken:
            return result if isinstance(result, Failure) else Loaded(result.sample, tuple(broken_ones))
        broken_ones += result.broken
    return Failure(
        f"{len(broken_ones)} images drawn one after the other cannot be read, {broken_ones[0].name} the first of them: "
        "check --data."
    )


def whole_or_none(candidate: int, load: Callable, broken: Broken) -> Loaded | Failure:
    """What ``load`` makes of the candidate; None and which it is where it is broken and that is to be skipped."""
    try:
        return Loaded(load(candidate))
    except BrokenSample as error:
        return Loaded(None, (Skipped(candidate, error.name),)) if broken == "skip" else Failure(str(error))
    except FovealError as error:
        return Failure(str(error))


@dataclass(frozen=True)
class Collate:
    """A batch of samples, or the first failure among them. A class, so that a spawned worker can unpickle it."""

    collate: Callable

    def __call__(self, samples: list[Loaded | Failure]) -> Arrival | Failure:
        loaded = []
        for sample in samples:
            if isinstance(sample, Failure):
                return sample
            loaded.append(sample)
        whole = [sample.sample for sample in loaded if sample.sample is not None]
        return Arrival(self.collate(whole) if whole else None, sum((sample.broken for sample in loaded), ()))
