"""The first use of Triton kernels on a CUDA device. Run by `make test-gpu`."""

import pytest
import torch

from foveal.ops import explain, gated_dwconv
from foveal.ops.deviation import Deviation
from foveal.ops.first_use import examine, subject

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda", 0)
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
NUMBERS = [
    *(("aggregated_attention", numbers) for numbers in ((24, 3), (32, 5), (64, 7), (5, 3), (128, 3), (24, 0), (64, 0))),
    *(("aggregated_attention_table", (dim, *more)) for dim in (24, 64) for more in ((3, 0), (3, 1), (0, 0), (0, 1))),
    *(("gated_dwconv", (kernel,)) for kernel in (1, 3, 7)),
    *(("dynamic_dwconv", (kernel,)) for kernel in (3, 7)),
]


@pytest.fixture
def tried_anew(tmp_path, monkeypatch):
    """Kernels are tried, and the cache is empty."""
    monkeypatch.delenv("FOVEAL_CHECK_KERNELS")
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def gate(kernel: int, dtype: torch.dtype = torch.bfloat16) -> tuple:
    """Arguments of a gate with a kernel that no other test has used."""
    x = torch.zeros(1, 4, 4, 8, device=DEVICE, dtype=dtype)
    return x, x, torch.zeros(8, 1, kernel, kernel, device=DEVICE, dtype=dtype)


@pytest.mark.parametrize("autocast", [False, True], ids=["one dtype", "float32 parameters"])
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize(("operator", "numbers"), NUMBERS, ids=str)
def test_right_kernels_pass_with_a_margin(operator, numbers, dtype, autocast):
    fused, _ = subject(operator)
    maps = {"q", "k", "v", "k_pool", "v_pool", "g", "x"}
    dtypes = tuple(torch.float32 if autocast and name not in maps else dtype for name in fused.tensors)
    found = examine(operator, dtypes, numbers, DEVICE)
    assert isinstance(found, Deviation), found
    assert found.error <= 0.8 * found.allowed, found


def test_the_first_call_keeps_a_verdict(tried_anew):
    gated_dwconv(*gate(11))
    assert len(list(tried_anew.iterdir())) == 1
    assert explain(gated_dwconv, *gate(11)).chosen == "triton"


def test_unseen_kernels_are_left_out_of_a_cuda_graph_and_tried_after_it(tried_anew):
    call = gate(13)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        captured = explain(gated_dwconv, *call)
    assert captured.chosen == "torch"
    assert "while a CUDA graph is captured" in captured.reasons["triton"]
    assert explain(gated_dwconv, *call).chosen == "triton"
