"""What holds for every test: the same seed, one thread, and one process for the tests of a file."""

import pytest
import torch

torch.set_num_threads(1)  # the models are too small to gain from more, and threads contend on shared CPUs
SPREAD = ("tests/ops/", "tests/gpu/", "tests/interpret/")  # thousands of short tests without shared fixtures


@pytest.fixture(autouse=True)
def seed():
    """Make tests independent of their order."""
    torch.manual_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run the tests of a file in one process, so that its fixtures are created once.

    The marks of ``--dist loadgroup`` have no effect with pytest 9.2 and xdist 3.8.0, and ``--dist loadfile`` would run
    the many tests of an operator in one process as well.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(SPREAD) else nodeid.partition("::")[0]

    return ByFile(config, log)
