"""What holds for every test: the same seed, one thread, and GPU tests only where they are asked for."""

import pytest
import torch

torch.set_num_threads(1)  # the nets here are too small for more, and threads wait for each other where CPUs are shared


def pytest_collection_modifyitems(config, items):
    """Tests marked gpu run under `-m gpu` alone (make test-gpu), and fail there without a GPU; elsewhere they are not selected."""
    if "gpu" in config.getoption("markexpr"):
        return
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        items[:] = [item for item in items if item not in on_gpu]
        config.hook.pytest_deselected(items=on_gpu)


@pytest.fixture(autouse=True)
def seed():
    """No test depends on which ran before it."""
    torch.manual_seed(0)
