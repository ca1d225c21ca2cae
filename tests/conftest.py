"""Every test runs with the same seed and a single thread."""

import pytest
import torch

torch.set_num_threads(1)  # the models are too small to gain from more, and threads contend on shared CPUs


@pytest.fixture(autouse=True)
def seed():
    """Make tests independent of their order."""
    torch.manual_seed(0)
