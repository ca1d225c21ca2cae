"""Samples in shards: the draws depend only on seed, epoch and share, not on the workers."""

from collections import Counter

import pytest
import torch

from foveal.errors import BrokenSample, FovealError
from foveal.training import streaming
from foveal.training.loading import Share, evaluation_loader, train_loader
from foveal.training.streaming import ShardedSamples

SIZES = (7, 19, 1, 13, 0, 20, 9, 31, 4, 16)  # 120 samples


class Shards(ShardedSamples, torch.utils.data.Dataset):
    """Sample n is n and a random number; records which shards were read from which position."""

    random_access = False

    def __init__(self, sizes=SIZES, broken=(), unreadable=()):
        self.sizes, self.broken, self.unreadable = sizes, broken, unreadable
        self.decoded, self.opened = [], []

    def __len__(self):
        return sum(self.sizes)

    def read(self, shard, start=0):
        if shard in self.unreadable:
            raise FovealError(f"shard {shard} is unreadable: copy it again.")
        self.opened.append((shard, start))
        first = sum(self.sizes[:shard])
        yield from range(first + start, first + self.sizes[shard])

    def decode(self, raw):
        self.decoded.append(raw)
        if raw in self.broken:
            raise BrokenSample(str(raw), f"sample {raw} is broken: mend it.")
        return raw, torch.rand(())


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Make 120 samples enough for several streams."""
    monkeypatch.setattr(streaming, "WINDOW", 6)


def rows(batches):
    return [torch.stack([numbers.float(), noise]) for numbers, noise in batches]


def numbers_of(batches):
    return [int(number) for batch in rows(batches) for number in batch[0]]


def loader_of(rank=0, count=1, workers=0, repeats=1, batch=4, data=None, draws=None, **options):
    draws = draws or 120 // count
    return train_loader(data or Shards(), batch, draws, Share(rank, count), 0, workers, repeats, **options)


def test_small_windows_give_several_streams():
    assert streaming.training_layout(120, 4, 0, 1).streams == 8
    assert streaming.training_layout(60, 4, 1, 1).streams == 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_are_disjoint_and_complete_for_any_shard_sizes(count):
    drawn = Counter()
    for rank in range(count):
        drawn.update(numbers_of(loader_of(rank, count).epoch(0)))
    assert drawn == Counter(range(120))


def test_workers_read_disjoint_samples():
    """The samples of each (process, worker) are disjoint: a worker owns every second stream here."""
    seen = Counter()
    for rank in range(2):
        batches = rows(loader_of(rank, 2, workers=2).epoch(0))
        for worker in range(2):
            seen.update((number, (rank, worker)) for batch in batches[worker::2] for number in batch[0].tolist())
    assert len({number for number, _ in seen}) == len(seen) == 120


@pytest.mark.parametrize("repeats", [1, 3])
def test_samples_are_independent_of_the_number_of_workers(repeats):
    alone = [rows(loader_of(repeats=repeats).epoch(number)) for number in range(2)]
    for workers in (1, 2):
        loader = loader_of(workers=workers, repeats=repeats)
        for number in range(2):
            assert all(map(torch.equal, alone[number], rows(loader.epoch(number))))


@pytest.mark.parametrize("workers", [3, 5, 16, 100])
def test_the_number_of_workers_is_rounded_down_to_a_divisor_of_the_streams(workers):
    assert streaming.fitting_workers(workers, 8) == {3: 2, 5: 4, 16: 8, 100: 8}[workers]


def test_epochs_differ_and_are_reproducible():
    first, second = (numbers_of(loader_of().epoch(number)) for number in range(2))
    assert first != second
    assert first == numbers_of(loader_of().epoch(0))
    assert first != sorted(first)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_started_in_the_middle_is_the_tail_of_the_complete_one(count, repeats, workers):
    for rank in range(count):
        loader = loader_of(rank, count, workers, repeats)
        whole = rows(loader.epoch(1))
        for start in (1, 6, 13, len(whole)):
            tail = rows(loader.epoch(1, start))
            assert len(tail) == len(whole) - start
            assert all(map(torch.equal, whole[start:], tail))


def test_an_epoch_started_in_the_middle_decodes_no_earlier_samples_and_opens_fewer_shards():
    whole, tail = Shards(), Shards()
    everything = numbers_of(loader_of(data=whole).epoch(0))
    assert numbers_of(loader_of(data=tail).epoch(0, 28)) == everything[-8:] == tail.decoded
    assert len(tail.opened) < len(whole.opened)


def test_repeated_augmentation_draws_a_third_of_the_samples_three_times_with_different_seeds():
    batches = rows(loader_of(repeats=3, batch=6).epoch(0))
    numbers, noise = torch.cat(batches, 1)
    assert set(Counter(numbers.tolist()).values()) == {3}
    assert len(set(noise.tolist())) == 120


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("repeats", [1, 3])
def test_replacements_of_broken_samples_are_independent_of_workers_and_start(workers, repeats):
    def loader(workers):
        return loader_of(workers=workers, repeats=repeats, data=Shards(broken=range(0, 120, 5)), broken="skip")

    alone, shared = loader(0), loader(workers)
    whole = rows(alone.epoch(0))
    assert sum(batch.shape[1] for batch in whole) == 120
    assert not any(number % 5 == 0 for number in torch.cat(whole, 1)[0])
    assert all(map(torch.equal, whole, rows(shared.epoch(0))))
    assert alone.broken == shared.broken
    assert all(map(torch.equal, whole[9:], rows(shared.epoch(0, 9))))


def test_a_broken_sample_raises_an_error_by_default():
    with pytest.raises(FovealError, match=r"^sample 7 is broken: mend it\.$"):
        list(loader_of(data=Shards(broken=(7,))).epoch(0))


def test_a_dataset_without_valid_samples_raises_an_error():
    with pytest.raises(FovealError, match=r"^100 images in a row cannot be read"):
        list(loader_of(data=Shards(broken=range(120)), broken="skip").epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_shard_raises_a_one_line_error_also_from_a_worker(workers):
    with pytest.raises(FovealError, match=r"^shard 3 is unreadable: copy it again\.$"):
        list(loader_of(data=Shards(unreadable=(3,)), workers=workers).epoch(0))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("broken", [(), (0, 5, 119)])
def test_evaluation_visits_each_sample_exactly_once_over_all_processes(count, workers, broken):
    seen = []
    for rank in range(count):
        loader = evaluation_loader(Shards(broken=broken), 7, Share(rank, count), workers, broken="skip")
        numbers = numbers_of(loader)
        assert numbers == [number for number in loader.order if number not in broken]
        assert loader.left_out == set(loader.order) & set(broken)
        assert set(loader.broken) == {str(number) for number in loader.order if number in broken}
        seen += numbers
    assert sorted(seen) == [number for number in range(120) if number not in broken]


def test_more_processes_than_samples_are_supported():
    seen = [n for rank in range(5) for n in numbers_of(evaluation_loader(Shards((2, 1)), 4, Share(rank, 5), 0))]
    assert sorted(seen) == [0, 1, 2]


def test_samples_are_shuffled_within_the_window():
    """A position is drawn less than one window early."""
    import random

    order = list(streaming.mixed(range(1000), 50, random.Random(1)))
    assert sorted(order) == list(range(1000))
    assert all(position < turn + 50 for turn, position in enumerate(order))
    assert order != sorted(order)
