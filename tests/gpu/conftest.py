"""Run the kernels whatever their first use would say, and float32 tests in full precision, without TF32."""

import pytest
import torch


@pytest.fixture(autouse=True)
def full_float32():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture(autouse=True)
def kernels_are_tested_themselves(monkeypatch):
    """A wrong kernel must fail its tests, not be left out of them."""
    monkeypatch.setenv("FOVEAL_CHECK_KERNELS", "0")
