"""Which sample is drawn when, by which process, with which randomness: functions of (seed, epoch, share) alone."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from foveal.training.batching import Share
from foveal.training.samples import Draw
from foveal.training.seeding import mix


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


class PassSampler(Sampler[Draw]):
    """The draws of one process where epochs have a length of their own: they follow each other through passes over the
    data, each pass in an order of its own, and no sample is drawn again before all others are.

    As with ``EpochSampler`` the images behind an update are the same for any number of processes.

    Args:
        repeats: augmented views of a sample within a pass, one after the other.
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
        """The samples as pass ``number`` draws them."""
        generator = torch.Generator().manual_seed(mix(self.seed, "pass", number))
        return torch.randperm(self.size, generator=generator)
