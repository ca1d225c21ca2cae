"""Operators are tested with uninitialised memory filled with NaN."""

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def small_maps_are_shared_among_threads(monkeypatch):
    """Small calls would otherwise run on one thread and leave multithreading untested."""
    monkeypatch.setattr("foveal.ops.native.WORK_PER_THREAD", 1)
