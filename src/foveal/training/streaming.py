"""Samples that are read in order, shard by shard, and still drawn as a function of (seed, epoch, share).

The size of each shard is known, so the order of an epoch is fixed before anything is read. The shards, in the epoch's
order, form one row of samples. Every process owns a stretch of the row, cut into streams; batch b comes from stream
``b % streams``, and a stream's samples are shuffled within a moving window. The number of streams depends on the data,
never on the workers: a worker reads whole streams, and the draws stay the same.
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

from torch.utils.data import Dataset, Sampler

from foveal.training.config import Broken
from foveal.training.samples import ATTEMPTS, Arrival, Collate, Failure, Loaded, first_whole, whole_or_none
from foveal.training.sampling import mix

#: Undecoded samples from which a stream draws the next one.
WINDOW = 1024
#: Powers of two, so that 1, 2, 4, 8 or 16 workers share them evenly.
MOST_STREAMS = 16


class ShardedSamples(ABC):
    """Samples in shards that are best read sequentially.

    Attributes:
        sizes: Number of samples in each shard.
        random_access: Whether ``[i]`` is as cheap as reading in order.
    """

    sizes: Sequence[int]
    random_access: bool

    @abstractmethod
    def read(self, shard: int, start: int = 0) -> Iterator[Any]:
        """Yield the undecoded samples of a shard from number ``start`` on. Raises FovealError if it is unreadable."""

    @abstractmethod
    def decode(self, raw: Any) -> Any:
        """Decode a sample that ``read`` yielded, as ``[i]`` would. Raises BrokenSample."""


@dataclass(frozen=True)
class Layout:
    """The stretch of one process and its streams, each of which owns contiguous samples.

    Attributes:
        first: Position in the row where the stretch begins.
        samples: Samples drawn, including copies.
        batch: Samples per batch; the last batch may be smaller.
        repeats: Copies of a sample, drawn one after the other.
    """

    first: int
    samples: int
    batch: int
    streams: int
    repeats: int = 1

    @property
    def batches(self) -> int:
        return math.ceil(self.samples / self.batch)

    @property
    def extent(self) -> int:
        """Number of positions that all streams own together."""
        return sum(self._width(stream) for stream in range(self.streams))

    def drawn(self, stream: int) -> int:
        """Return the number of samples that a stream yields in the epoch."""
        own = range(stream, self.batches, self.streams)
        missing = self.batches * self.batch - self.samples if self.batches - 1 in own else 0
        return len(own) * self.batch - missing

    def positions(self, stream: int) -> range:
        begin = self.first + sum(self._width(before) for before in range(stream))
        return range(begin, begin + self._width(stream))

    def in_order(self) -> list[int]:
        """Return the positions in the order of the batches without shuffling."""
        order: list[int] = []
        for number in range(self.batches):
            turn, stream = divmod(number, self.streams)
            order += self.positions(stream)[turn * self.batch : (turn + 1) * self.batch]
        return order

    def _width(self, stream: int) -> int:
        return math.ceil(self.drawn(stream) / self.repeats)


def training_layout(draws: int, batch: int, rank: int, repeats: int) -> Layout:
    """Return the stretch of a process; all have the same length and follow each other from the start of the row."""
    streams = _power_of_two(min(MOST_STREAMS, draws // repeats // (2 * WINDOW)))
    width = Layout(0, draws, batch, streams, repeats).extent
    return Layout(rank * width, draws, batch, streams, repeats)


def evaluation_layout(size: int, batch: int, rank: int, count: int) -> Layout:
    """Return the stretch of a process when the whole row is cut as evenly as possible."""
    first, end = size * rank // count, size * (rank + 1) // count
    return Layout(first, end - first, batch, _power_of_two(min(MOST_STREAMS, math.ceil((end - first) / batch))))


class StreamSampler(Sampler[tuple[int, int]]):
    """(epoch, batch) for every batch from ``start`` on."""

    def __init__(self, batches: int) -> None:
        self.batches, self.epoch, self.start = batches, 0, 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in range(self.start, self.batches))


class StreamDataset(Dataset):
    """Batches indexed by (epoch, number); fast if the batches of a stream are requested in order.

    Args:
        place: Rank of this process, and the number of processes.
        seed: Seed of order and augmentation; None for evaluation, in order and without randomness.
    """

    def __init__(
        self,
        samples: ShardedSamples,
        layout: Layout,
        place: tuple[int, int],
        seed: int | None,
        broken: Broken,
        collate: Collate,
    ) -> None:
        self.samples, self.layout, self.seed, self.broken, self.collate = samples, layout, seed, broken, collate
        self.rank, self.count = place
        self.window = WINDOW
        self._readings: dict[int, _Reading] = {}

    def __len__(self) -> int:
        return self.layout.batches

    def __getitem__(self, request: tuple[int, int]) -> Arrival | Failure:
        epoch, number = request
        turn, stream = divmod(number, self.layout.streams)
        reading = self._readings.get(stream)
        if reading is None or (reading.epoch, reading.turn) != (epoch, turn):
            reading = self._readings[stream] = self._begin(epoch, stream, turn)
        reading.turn += 1
        loaded: list[Loaded | Failure] = []
        for slot in reading.slots(turn):
            loaded.append(self._sample(reading, number, slot))
            if isinstance(loaded[-1], Failure):
                del self._readings[stream]  # its source has ended; the next request starts anew
                break
        return self.collate(loaded)

    def _begin(self, epoch: int, stream: int, turn: int) -> "_Reading":
        shards, order = list(range(len(self.samples.sizes))), list(self.layout.positions(stream))
        if self.seed is not None:
            random.Random(mix(self.seed, "shards", epoch)).shuffle(shards)
            draw = random.Random(mix(self.seed, "window", epoch, self.rank, stream))
            order = list(mixed(order, self.window, draw))
        return _Reading(epoch, turn, order, self.layout, self.layout.drawn(stream), _Row(self.samples, shards))

    def _sample(self, reading: "_Reading", number: int, slot: int) -> Loaded | Failure:
        """Return the sample of one slot of a stream, in batch ``number``."""

        def load(position: int) -> Any:
            return self.samples.decode(reading.fetch(position))

        if self.seed is None:
            result = whole_or_none(reading.order[slot], load, self.broken)
        else:
            place = number * self.layout.batch + slot % self.layout.batch
            seed = mix(self.seed, "draw", reading.epoch, place * self.count + self.rank)
            result = first_whole(reading.candidates(slot), load, seed, self.broken)
        reading.forget(slot)
        return result


class _Row:
    """The shards of an epoch end to end, repeated, read from one position on."""

    def __init__(self, samples: ShardedSamples, shards: list[int]) -> None:
        self.samples, self.shards = samples, shards
        self.ends = list(accumulate(samples.sizes[shard] for shard in shards))

    def read(self, position: int) -> Iterator[tuple[int, Any]]:
        """Yield (position, undecoded sample) from ``position`` on."""
        skip = position % self.ends[-1]
        while True:
            for shard, end in zip(self.shards, self.ends, strict=True):
                if skip >= end:
                    continue
                start = max(0, skip - (end - self.samples.sizes[shard]))
                for raw in self.samples.read(shard, start):
                    yield position, raw
                    position += 1
            skip = 0


class _Reading:
    """A stream being read: its order, and the undecoded samples that were read and not yet drawn."""

    def __init__(self, epoch: int, turn: int, order: list[int], layout: Layout, drawn: int, row: _Row) -> None:
        self.epoch, self.turn, self.order, self.layout, self.drawn = epoch, turn, order, layout, drawn
        wanted = order[turn * layout.batch // layout.repeats :]
        self._wanted, self._held = set(wanted), dict[int, Any]()
        self._end = max(order) + 1
        self._source = row.read(min(wanted))

    def slots(self, turn: int) -> range:
        """Return the numbers of the draws of batch ``turn`` within the stream."""
        return range(turn * self.layout.batch, min((turn + 1) * self.layout.batch, self.drawn))

    def candidates(self, slot: int) -> Iterator[int]:
        """Yield the slot's own position and its replacements if that is broken: the next ones, and those after the
        stream's end."""
        own = slot // self.layout.repeats
        later = self.order[own : own + ATTEMPTS]
        return chain(later, range(self._end, self._end + ATTEMPTS - len(later)))

    def fetch(self, position: int) -> Any:
        """Return the undecoded sample; samples passed on the way are kept if they are needed later."""
        while position not in self._held:
            passed, raw = next(self._source)
            if passed in self._wanted or passed == position:
                self._held[passed] = raw
        return self._held[position]

    def forget(self, slot: int) -> None:
        """Drop a sample after its last copy."""
        if (slot + 1) % self.layout.repeats == 0:
            position = self.order[slot // self.layout.repeats]
            self._wanted.discard(position)
            self._held.pop(position, None)


def mixed(positions: Sequence[int], window: int, draw: random.Random) -> Iterator[int]:
    """Yield the positions in a new order, each drawn from the next ``window`` that are left."""
    held: list[int] = []
    for position in positions:
        if len(held) < window:
            held.append(position)
            continue
        chosen = draw.randrange(window)
        yield held[chosen]
        held[chosen] = position
    draw.shuffle(held)
    yield from held


def fitting_workers(workers: int, streams: int) -> int:
    """Return at most ``workers``, such that each reads the same number of streams."""
    return min(_power_of_two(workers), streams) if workers else 0


def _power_of_two(most: int) -> int:
    return 1 << (max(1, most).bit_length() - 1)
