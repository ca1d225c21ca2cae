"""Which samples are drawn by which process, and with which random seeds."""

import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
import torch

from foveal.errors import BrokenSample, FovealError
from foveal.training.loading import Share, evaluation_loader, train_loader
from foveal.training.sampling import EpochSampler, PassSampler


class Noise(torch.utils.data.Dataset):
    """Samples are their index and a random number."""

    def __init__(self, count=20, broken=()):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise BrokenSample(str(index), f"sample {index} is broken: mend it.")
        return index, torch.rand(())


def draws_of(share, epoch, size=20, repeats=1, seed=0):
    sampler = EpochSampler(size, size // share.count, share, seed, repeats)
    sampler.epoch = epoch
    return list(sampler)


def test_an_epoch_draws_each_sample_once_in_its_own_order():
    first, second = (draws_of(Share(), epoch) for epoch in (0, 1))
    assert sorted(draw.index for draw in first) == list(range(20))
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert first == draws_of(Share(), 0)
    assert first != draws_of(Share(), 0, seed=1)


def test_the_samples_of_an_update_are_independent_of_the_number_of_processes():
    alone = draws_of(Share(), 3)
    four = [draws_of(Share(rank, 4), 3) for rank in range(4)]
    update = [draw for share in four for draw in share[:2]]  # 4 processes x 2 = the first 8 of one process
    assert set(update) == set(alone[:8])


def test_repeated_augmentation_draws_a_third_of_the_samples_three_times_with_different_seeds():
    draws = draws_of(Share(), 0, size=30, repeats=3)
    assert len(draws) == 30
    assert set(Counter(draw.index for draw in draws).values()) == {3}
    assert len({draw.seed for draw in draws}) == 30


def passes_of(share, epochs, draws, size=20, repeats=1):
    sampler = PassSampler(size, draws // share.count, share, 0, repeats)
    drawn = []
    for sampler.epoch in range(epochs):
        drawn += list(sampler)
    return drawn


def test_epochs_of_custom_length_continue_through_the_data():
    """Five epochs of 12 draws are three complete passes over 20 samples, each in another order."""
    drawn = passes_of(Share(), 5, 12)
    passes = [[draw.index for draw in drawn[start : start + 20]] for start in (0, 20, 40)]
    assert all(sorted(order) == list(range(20)) for order in passes)
    assert passes[0] != passes[1] != passes[2]
    assert len({draw.seed for draw in drawn}) == 60


def test_an_epoch_longer_than_the_dataset_repeats_it():
    assert set(Counter(draw.index for draw in passes_of(Share(), 1, 60)).values()) == {3}


def test_repeated_samples_are_consecutive_within_a_pass():
    drawn = [draw.index for draw in passes_of(Share(), 1, 60, repeats=3)]
    assert drawn[::3] == drawn[1::3] == drawn[2::3]
    assert sorted(drawn[::3]) == list(range(20))


def test_several_processes_draw_the_samples_of_one_across_passes():
    alone, two = passes_of(Share(), 5, 12), [passes_of(Share(rank, 2), 5, 12) for rank in range(2)]
    assert [draw for pair in zip(*two, strict=True) for draw in pair] == alone


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_are_independent_of_the_number_of_workers(workers):
    def epochs(workers):
        loader = train_loader(Noise(), 4, 20, Share(), seed=0, workers=workers)
        return [torch.cat([noise for _, noise in loader.epoch(number)]) for number in range(2)]

    for alone, with_workers in zip(epochs(0), epochs(workers), strict=True):
        assert torch.equal(alone, with_workers)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("pass_by_pass", [False, True])
def test_an_epoch_started_in_the_middle_is_the_tail_of_the_complete_one(workers, count, repeats, pass_by_pass):
    for rank in range(count):
        share = Share(rank, count)
        loader = train_loader(Noise(), 2, 20 // count, share, 0, workers, repeats, pass_by_pass=pass_by_pass)
        whole = [torch.stack(batch) for batch in loader.epoch(1)]
        for start in (0, 1, 3, len(whole)):
            tail = [torch.stack(batch) for batch in loader.epoch(1, start)]
            assert len(tail) == len(whole) - start
            assert all(map(torch.equal, whole[start:], tail))


def test_an_epoch_started_in_the_middle_loads_no_earlier_samples():
    data = Noise(broken=[draw.index for draw in draws_of(Share(), 1)[:8]])
    assert len(list(train_loader(data, 4, 20, Share(), seed=0, workers=0).epoch(1, 2))) == 3


def test_a_partial_epoch_does_not_affect_the_next_one():
    loader = train_loader(Noise(), 4, 20, Share(), seed=0, workers=2)
    whole = [batch[1] for batch in loader.epoch(0)]
    next(loader.epoch(0, 3))
    assert all(map(torch.equal, whole, [batch[1] for batch in loader.epoch(0)]))


def test_loading_does_not_change_the_global_random_state():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(train_loader(Noise(), 4, 20, Share(), seed=0, workers=0).epoch(0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_evaluation_visits_each_sample_exactly_once_over_all_processes(count):
    seen = Counter()
    for rank in range(count):
        for indices, _ in evaluation_loader(Noise(), 3, Share(rank, count), workers=0):
            seen.update(indices.tolist())
    assert seen == Counter(range(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_raises_a_one_line_error_also_from_a_worker(workers):
    loader = train_loader(Noise(broken=(5,)), 4, 20, Share(), seed=0, workers=workers)
    with pytest.raises(FovealError) as caught:
        list(loader.epoch(0))
    assert str(caught.value) == "sample 5 is broken: mend it."


def seen_and_skipped(loader, batches):
    seen = [torch.stack([indices.float(), noise]) for indices, noise in batches]
    return torch.cat(seen, 1), list(loader.broken)


@pytest.mark.parametrize("workers", [1, 2])
def test_replacements_of_broken_samples_are_independent_of_the_workers(workers):
    def epoch(workers):
        loader = train_loader(Noise(broken=(3, 5, 6)), 4, 20, Share(), 0, workers, broken="skip")
        return seen_and_skipped(loader, loader.epoch(2))

    (seen, skipped), (seen_by_workers, skipped_by_workers) = epoch(0), epoch(workers)
    assert torch.equal(seen, seen_by_workers)
    assert seen.shape[1] == 20
    assert not {3, 5, 6} & set(seen[0].tolist())
    assert {"3", "5", "6"} == set(skipped)
    assert skipped == skipped_by_workers


@pytest.mark.parametrize("start", [1, 3])
def test_an_epoch_started_in_the_middle_skips_like_the_complete_one(start):
    loaders = [train_loader(Noise(broken=range(0, 20, 3)), 4, 20, Share(), 0, 0, broken="skip") for _ in range(2)]
    whole, _ = seen_and_skipped(loaders[0], loaders[0].epoch(0))
    tail, skipped = seen_and_skipped(loaders[1], loaders[1].epoch(0, start))
    assert torch.equal(whole[:, 4 * start :], tail)
    assert skipped
    assert set(skipped) <= set(loaders[0].broken)


def test_valid_samples_are_unaffected_by_broken_ones():
    loaders = [train_loader(Noise(broken=broken), 4, 20, Share(), 0, 0, broken="skip") for broken in ((), (7,))]
    (healthy, _), (skipping, _) = (seen_and_skipped(loader, loader.epoch(0)) for loader in loaders)
    assert [a.item() for a, same in zip(healthy[0], healthy[0] == skipping[0], strict=True) if not same] == [7]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_skips_broken_samples_and_visits_each_valid_one_once(count, workers):
    seen, skipped = [], []
    for rank in range(count):
        loader = evaluation_loader(Noise(broken=(0, 1, 2, 3, 19)), 2, Share(rank, count), workers, broken="skip")
        batches = [indices.tolist() for indices, _ in loader]
        assert all(batches)
        rows = [index for batch in batches for index in batch]
        assert rows == [index for index in loader.order if str(index) not in loader.broken]
        seen, skipped = seen + rows, skipped + loader.broken
    assert sorted(seen) == list(range(4, 19))
    assert sorted(skipped) == ["0", "1", "19", "2", "3"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_evaluation_goes_on_after_any_batch(rank, workers):
    """Also after one that held broken samples: they stay named, counted and left out."""

    def loader(start=None):
        data = Noise(19, broken=(0, 2, 3, 12, 13))
        return evaluation_loader(data, 2, Share(rank, 2), workers, broken="skip", start=start)

    whole, states = loader(), []
    batches = [(indices.tolist(), whole.progress()) for indices, _ in whole]
    assert whole.progress().samples == len(whole.order)
    for done, (_, state) in enumerate(batches, start=1):
        states.append(state)
        rest = loader(state)
        assert [indices.tolist() for indices, _ in rest] == [indices for indices, _ in batches[done:]]
        assert (rest.broken, rest.left_out, rest.skipped) == (whole.broken, whole.left_out, whole.skipped)
        assert rest.progress() == whole.progress()
        assert len(rest) == len(whole)
    assert len({state.samples for state in states}) == len(batches)


def test_skipped_samples_are_named_once_and_counted_every_epoch():
    loader = train_loader(Noise(broken=(3, 5)), 4, 20, Share(), 0, 0, broken="skip")
    counts = []
    for epoch in range(3):
        list(loader.epoch(epoch))
        counts.append(loader.skipped)
        assert sorted(set(loader.broken)) == sorted(loader.broken) == ["3", "5"]
    assert all(after - before >= 2 for before, after in pairwise([0, *counts]))  # every epoch draws each image


def test_a_dataset_without_valid_samples_raises_an_error():
    data = Noise(broken=range(20))
    with pytest.raises(FovealError, match=r"^100 images in a row cannot be read, the first of them \d+:"):
        next(train_loader(data, 4, 20, Share(), 0, 0, broken="skip").epoch(0))
    with pytest.raises(FovealError, match=r"^None of the images can be read \(the first is 0\): check --data\.$"):
        list(evaluation_loader(data, 4, Share(), 0, broken="skip"))


def test_an_uncaught_error_ends_the_process_and_its_workers():
    script = """
import torch
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader

def train(loader):
    batches = iter(loader)
    next(batches)
    raise RuntimeError("as when a device is out of memory")

train(evaluation_loader(torch.arange(1000), 2, Share(), workers=1))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: as when a device is out of memory\n")


def test_garbage_collecting_a_loader_in_a_reference_cycle_ends_its_workers():
    """The traceback of the error keeps the loader in a reference cycle, which is collected as a whole."""
    script = """
import gc, multiprocessing, torch
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader

def train(loader):
    batches = iter(loader)
    next(batches)
    raise RuntimeError("as when a device is out of memory")

try:
    train(evaluation_loader(torch.arange(1000), 2, Share(), workers=1))
except RuntimeError as error:
    error.itself = error
    assert len(multiprocessing.active_children()) == 1
gc.collect()
print(len(multiprocessing.active_children()))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr


def test_sigterm_during_worker_startup_is_ignored_by_the_worker(monkeypatch):
    """A scheduler sends SIGTERM to all processes, possibly before a worker has set its signal handler."""
    here, limit_threads = os.getpid(), torch.set_num_threads

    def terminated_first(count):  # the first call of a PyTorch worker
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGTERM)
        limit_threads(count)

    monkeypatch.setattr(torch, "set_num_threads", terminated_first)
    assert len(list(train_loader(Noise(), 4, 20, Share(), 0, workers=1).epoch(0))) == 5
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
