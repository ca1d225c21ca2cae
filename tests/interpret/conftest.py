"""Triton's interpreter is selected when kernels are imported, so these tests run in a separate process, ``make
test-interpret``, and are not collected in any other."""

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fill uninitialised memory with NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
