"""Samples as loading processes read them, and the handling of broken ones.

A failure is passed to the main process as a value, because an exception that crosses processes arrives with a traceback
in its text instead of the one sentence it was raised with.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from foveal.errors import BrokenSample, FovealError
from foveal.training.config import Broken
from foveal.training.sampling import Draw, mix, seeded_on_cpu

#: If this many samples in a row are broken, the whole data set is taken to be broken.
ATTEMPTS = 100


@dataclass(frozen=True)
class Failure:
    """The text of a FovealError, passed from a loading process to the main one."""

    text: str


class Skipped(NamedTuple):
    """A broken sample that was skipped: its number in the dataset (or in the row of a stream) and its name."""

    number: int
    name: str


class Loaded(NamedTuple):
    """A sample, or None if it is left out, and the broken samples skipped before it."""

    sample: Any
    broken: tuple[Skipped, ...] = ()


class Arrival(NamedTuple):
    """A batch, or None if all of it is broken, and the broken samples."""

    batch: Any
    broken: tuple[Skipped, ...] = ()


class SeededDataset(Dataset):
    """A dataset indexed by ``Draw``: a sample's randomness follows from the draw, not from the loading process.

    A broken sample that is skipped is replaced by another one, which follows from the draw as well.
    """

    def __init__(self, samples: Any, broken: Broken = "stop") -> None:
        self.samples, self.broken = samples, broken

    def __getitem__(self, draw: Draw) -> Loaded | Failure:
        size = len(self.samples)
        others = (mix(draw.seed, "instead", attempt) % size for attempt in range(1, ATTEMPTS))
        return first_whole((draw.index, *others), self.samples.__getitem__, draw.seed, self.broken)


class CarryingDataset(Dataset):
    """A dataset indexed by number, for evaluation; a broken sample that is skipped is left out."""

    def __init__(self, samples: Any, broken: Broken = "stop") -> None:
        self.samples, self.broken = samples, broken

    def __getitem__(self, index: int) -> Loaded | Failure:
        return whole_or_none(index, self.samples.__getitem__, self.broken)


def first_whole(candidates: Iterable[int], load: Callable, seed: int, broken: Broken) -> Loaded | Failure:
    """Return the first candidate that ``load`` can load, with the randomness of ``seed``."""
    broken_ones: list[Skipped] = []
    for candidate in candidates:
        with seeded_on_cpu(seed):
            result = whole_or_none(candidate, load, broken)
        if isinstance(result, Failure) or not result.broken:
            return result if isinstance(result, Failure) else Loaded(result.sample, tuple(broken_ones))
        broken_ones += result.broken
    return Failure(
        f"{len(broken_ones)} images in a row cannot be read, the first of them {broken_ones[0].name}: check --data."
    )


def whole_or_none(candidate: int, load: Callable, broken: Broken) -> Loaded | Failure:
    """Load the candidate; return None and its name if it is broken and should be skipped."""
    try:
        return Loaded(load(candidate))
    except BrokenSample as error:
        return Loaded(None, (Skipped(candidate, error.name),)) if broken == "skip" else Failure(str(error))
    except FovealError as error:
        return Failure(str(error))


@dataclass(frozen=True)
class Collate:
    """Combine samples into a batch, or return the first failure. A class, so that a spawned worker can unpickle it."""

    collate: Callable

    def __call__(self, samples: list[Loaded | Failure]) -> Arrival | Failure:
        loaded = []
        for sample in samples:
            if isinstance(sample, Failure):
                return sample
            loaded.append(sample)
        whole = [sample.sample for sample in loaded if sample.sample is not None]
        return Arrival(self.collate(whole) if whole else None, sum((sample.broken for sample in loaded), ()))
