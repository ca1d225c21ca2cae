"""The effective batch size is as requested, or an error lists the possible ones."""

import pytest

from foveal.errors import FovealError
from foveal.training.batching import split_batch


@pytest.mark.parametrize(
    ("effective", "processes", "device", "expected"),
    [
        (1024, 8, None, (128, 1)),
        (1024, 1, None, (128, 8)),
        (1024, 64, None, (16, 1)),
        (1024, 4, 64, (64, 4)),
        (96, 2, None, (48, 1)),
        (7, 1, None, (7, 1)),
        (131, 1, 1, (1, 131)),
    ],
)
def test_processes_times_device_batch_times_accumulation_is_the_effective_batch(effective, processes, device, expected):
    batching = split_batch(effective, processes, device)
    assert (batching.device, batching.accumulation) == expected
    assert processes * batching.device * batching.accumulation == effective


def test_an_invalid_device_batch_size_raises_an_error_with_the_possible_ones():
    with pytest.raises(FovealError, match=r"one of 1, 2, 3, 4, 6, 8, 12, 24\.$"):
        split_batch(48, 2, 5)


def test_an_indivisible_batch_size_raises_an_error_with_the_nearest_ones():
    with pytest.raises(FovealError, match="--batch-size 96 or 99"):
        split_batch(98, 3)


def test_a_device_batch_size_of_1_is_never_chosen_automatically():
    with pytest.raises(FovealError, match=r"of 1 or 131: pass one of these as --device-batch-size"):
        split_batch(262, 2)
