"""The effective batch is what was asked for, or it is refused with what is possible."""

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
def test_devices_times_batch_times_accumulation_is_the_effective_batch(effective, processes, device, expected):
    batching = split_batch(effective, processes, device)
    assert (batching.device, batching.accumulation) == expected
    assert processes * batching.device * batching.accumulation == effective


def test_a_device_batch_that_cannot_give_the_batch_is_refused_with_the_possible_ones():
    with pytest.raises(FovealError, match=r"one of 1, 2, 3, 4, 6, 8, 12, 24\.$"):
        split_batch(48, 2, 5)


def test_a_batch_that_processes_cannot_share_is_refused_with_the_nearest_ones():
    with pytest.raises(FovealError, match="--batch-size 96 or 99"):
        split_batch(98, 3)


def test_single_images_are_never_chosen_unasked():
    with pytest.raises(FovealError, match=r"of 1 or 131: pass one of these as --device-batch-size"):
        split_batch(262, 2)
