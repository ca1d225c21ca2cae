"""Balanced sampling: every class equally often, as a function of the seed and the position."""

from collections import Counter

import pytest
import torch
from torch.utils.data import Dataset

from foveal.training.batching import Share
from foveal.training.loading import train_loader
from foveal.training.sampling import BalancedSampler

CLASSES = [0] * 90 + [1] * 9 + [2]
ALONE = Share()


def draws(count=300, share=ALONE, epoch=0, start=0, repeats=1, seed=5):
    sampler = BalancedSampler(CLASSES, count, share, seed, repeats)
    sampler.epoch, sampler.start = epoch, start
    return list(sampler)


def test_every_class_is_drawn_equally_often():
    assert Counter(CLASSES[draw.index] for draw in draws(300)) == {0: 100, 1: 100, 2: 100}


def test_every_sample_of_a_class_is_drawn_before_one_comes_again():
    drawn = [draw.index for draw in draws(300) if CLASSES[draw.index] == 1]
    for first in range(0, 99, 9):
        assert sorted(drawn[first : first + 9]) == list(range(90, 99))


def test_the_order_of_classes_and_samples_changes():
    drawn = [draw.index for draw in draws(300)]
    assert len({tuple(CLASSES[index] for index in drawn[at : at + 3]) for at in range(0, 300, 3)}) == 6
    ones = [index for index in drawn if CLASSES[index] == 1]
    assert ones[:9] != ones[9:18]


def test_epochs_continue_where_the_last_one_ended():
    """In epochs of ten draws a class can be drawn four times, but over thirty draws each is drawn ten times."""
    drawn = [CLASSES[draw.index] for epoch in range(3) for draw in draws(10, epoch=epoch)]
    assert Counter(drawn) == {0: 10, 1: 10, 2: 10}
    assert draws(10, epoch=2) == draws(30)[20:]


def test_an_epoch_that_is_resumed_goes_on_with_the_same_draws():
    assert draws(40, epoch=3, start=17) == draws(40, epoch=3)[17:]


def test_processes_share_the_draws_of_one():
    alone, two = draws(40, epoch=2), [draws(20, Share(rank, 2), epoch=2) for rank in range(2)]
    assert [draw for pair in zip(*two, strict=True) for draw in pair] == alone


def test_another_seed_draws_others():
    assert draws(40, seed=1) != draws(40, seed=2)


def test_views_of_a_sample_follow_each_other():
    drawn = [draw.index for draw in draws(30, repeats=3)]
    assert drawn[::3] == drawn[1::3] == drawn[2::3]
    assert len({draw.seed for draw in draws(30, repeats=3)}) == 30


class Numbers(Dataset):
    """Sample i is i and a random number."""

    def __len__(self):
        return len(CLASSES)

    def __getitem__(self, index):
        return torch.tensor(index), torch.rand(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    def batches(workers):
        loader = train_loader(Numbers(), 6, 30, Share(), 0, workers, classes=CLASSES)
        return [(indices.tolist(), noise.tolist()) for indices, noise in loader.epoch(1)]

    assert batches(workers) == batches(0)
    assert [len(indices) for indices, _ in batches(workers)] == [6] * 5
