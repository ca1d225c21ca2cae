"""Which sample is drawn when, by which process and with which randomness: functions of a seed and a position.

Every random number of a run follows from (seed, position): an image's augmentation from its position in the epoch, the
dropout and mixing of a step from the step's number. So a result does not depend on the number of loading processes, on
evaluations in between, or on whether the run was stopped and resumed, and a checkpoint needs no random state.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from foveal.training.batching import Share


def mix(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part and is the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded_on_cpu(seed: int) -> Iterator[None]:
    """Start the CPU's generators from ``seed`` inside the block, and restore them afterwards."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


@dataclass(frozen=True)
class Draw:
    """One sample of an epoch and the seed of its augmentation."""

    index: int
    seed: int


class EpochSampler(Sampler[Draw]):
    """The draws of one process in one epoch.

    Processes stride through one common order, so the images of an update are the same for any number of processes.
    Set ``epoch`` and ``start`` (draws of this process to skip) before iterating; ``len`` is always that of the whole
    epoch.

    Args:
        size: Number of samples in the dataset.
        draws: Draws of this process per epoch.
        repeats: Augmented views of a sample within an epoch (repeated augmentation, Hoffer et al. 2020, as in DeiT).
            The length of the epoch stays, so it visits ``1 / repeats`` of the samples.
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


class PassSampler(Sampler[Draw]):
    """The draws of one process if epochs are not passes: they follow each other through shuffled passes over the data.

    No sample is drawn again before all others have been. As with ``EpochSampler`` the images of an update are the same
    for any number of processes.

    Args:
        repeats: Augmented views of a sample within a pass, drawn one after the other.
    """

    def __init__(self, size: int, draws: int, share: Share, seed: int, repeats: int = 1) -> None:
        self.size, self.share, self.draws, self.seed, self.repeats = size, share, draws, seed, repeats
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        order = lru_cache(maxsize=1)(self._order)
        for position in range(self.start, self.draws):
            place = (self.epoch * self.draws + position) * self.share.count + self.share.rank
            number, rest = divmod(place, self.size * self.repeats)
            yield Draw(int(order(number)[rest // self.repeats]), mix(self.seed, "draw", place))

    def _order(self, number: int) -> Tensor:
        """Return the order of the samples in pass ``number``."""
        generator = torch.Generator().manual_seed(mix(self.seed, "pass", number))
        return torch.randperm(self.size, generator=generator)


class BalancedSampler(Sampler[Draw]):
    """The draws of one process if every class is drawn equally often, whatever the number of its samples.

    Draws go round by round through the classes, in a new order each round, and the samples of a class follow each other
    through shuffled passes over them: one of a rare class comes again when all others of its class have been drawn. As
    with ``PassSampler`` epochs continue where the last one ended, and the images of an update are the same for any
    number of processes.

    Args:
        classes: The class of each sample; classes without one are never drawn.
        repeats: Augmented views of a sample, drawn one after the other.
    """

    def __init__(self, classes: Sequence[int], draws: int, share: Share, seed: int, repeats: int = 1) -> None:
        members: dict[int, list[int]] = {}
        for index, name in enumerate(classes):
            members.setdefault(name, []).append(index)
        self.members = [members[name] for name in sorted(members)]
        self.share, self.draws, self.seed, self.repeats = share, draws, seed, repeats
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        classes_of = lru_cache(maxsize=1)(lambda number: self._order(len(self.members), "round", number))
        passes: dict[int, tuple[int, Tensor]] = {}  # of each class: the number of its pass, and the order in it
        for position in range(self.start, self.draws):
            place = (self.epoch * self.draws + position) * self.share.count + self.share.rank
            number, turn = divmod(place // self.repeats, len(self.members))
            chosen = int(classes_of(number)[turn])
            members = self.members[chosen]
            done, rest = divmod(number, len(members))
            if passes.get(chosen, (-1,))[0] != done:
                passes[chosen] = done, self._order(len(members), "class", chosen, done)
            yield Draw(members[int(passes[chosen][1][rest])], mix(self.seed, "draw", place))

    def _order(self, count: int, *what: int | str) -> Tensor:
        """Return a shuffled order of ``count`` things."""
        return torch.randperm(count, generator=torch.Generator().manual_seed(mix(self.seed, *what)))
