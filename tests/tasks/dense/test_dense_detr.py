"""What sums of losses are divided by, and in which precision they are counted."""

import pytest
import torch

from foveal.tasks.dense.detr import at_least_float32, mean_count


def test_sums_are_divided_by_the_objects_and_at_least_by_1():
    assert mean_count(7, torch.device("cpu")).item() == 7
    assert mean_count(0, torch.device("cpu")).item() == 1


def test_processes_that_train_together_divide_by_their_mean(monkeypatch):
    """Two processes with 5 and 2 objects."""

    def add_the_other(tensor):
        tensor += 2

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", add_the_other)
    assert mean_count(5, torch.device("cpu")).item() == 3.5
    assert mean_count(0, torch.device("cpu")).item() == 1


@pytest.mark.parametrize(
    ("given", "counted"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_losses_are_counted_in_float32_or_better(given, counted):
    assert at_least_float32(torch.zeros(1, dtype=given)).dtype == counted
