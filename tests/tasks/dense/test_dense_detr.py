"""Normalisation and precision of DETR losses."""

import pytest
import torch

from foveal.tasks.dense.detr import at_least_float32, mean_count


def test_losses_are_divided_by_the_number_of_objects_and_at_least_by_1():
    assert mean_count(7, torch.device("cpu")).item() == 7
    assert mean_count(0, torch.device("cpu")).item() == 1


def test_distributed_processes_divide_by_their_mean_count(monkeypatch):
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
def test_losses_are_computed_in_at_least_float32(given, counted):
    assert at_least_float32(torch.zeros(1, dtype=given)).dtype == counted
