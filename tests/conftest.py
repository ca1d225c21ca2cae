"""What holds for every test: the same seed, and one thread."""

import pytest
import torch

torch.set_num_threads(1)  # the nets here are too small for more, and threads wait for each other where CPUs are shared


@pytest.fixture(autouse=True)
def seed():
    """No test depends on which ran before it."""
    torch.manual_seed(0)
