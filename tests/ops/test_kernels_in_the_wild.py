"""The compiled kernels under changed PyTorch settings and for unsupported requests."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import foveal.ops
from foveal.ops import BackendError, native
from foveal.ops.gelu_pool import cpu as pooling
from foveal.ops.linear import linear
from foveal.ops.native import why_unavailable
from support.accuracy import assert_same, assert_within_budget
from support.operators import OPERATORS, Call

every_operator = pytest.mark.parametrize("operator", OPERATORS)
kernels = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


def test_kernels_are_built_if_a_compiler_is_installed():
    if any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        assert why_unavailable() is None


@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_every_extension_used_by_the_compiler_is_checked_at_runtime(name):
    source = (Path(native.__file__).parent / "kernels.cpp").read_text()
    region = re.search(rf'#define FOVEAL_ISA {name}\n(.*?)#include "isa.h"', source, re.DOTALL)[1]
    check = re.search(rf"Kernels\* {name}_kernels\(\) {{(.*?)\n}}", source, re.DOTALL)[1]
    targets = re.findall(r'target\("([^"]+)"\)', region)
    allowed = {extension for target in targets for extension in target.split(",")} - {"prefer-vector-width=512"}
    assert len(targets) == 2  # for gcc and clang
    assert set(re.findall(r'__builtin_cpu_supports\("(\w+)"\)', check)) == allowed


class Longer(ctypes.Structure):
    """A kernel's argument structure as defined by other sources."""

    _fields_ = [*pooling._Call._fields_, ("added", ctypes.c_int64)]


def other_library(folder, source: str) -> ctypes.CDLL:
    """A compiled library; the test is skipped if there is no compiler."""
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "other.c").write_text(source)
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "other.so"), str(folder / "other.c")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "other.so"))


OTHER_KERNELS = {
    "longer structure in Python": None,
    "shorter structure in C": "long long foveal_gelu_pool_size(void) { return 8; }",
    "library without the kernel": "long long foveal_softmax_size(void) { return 8; }",
}


@kernels
@pytest.mark.parametrize("other", OTHER_KERNELS)
def test_kernels_built_from_other_sources_are_rejected_with_build_instructions(other, monkeypatch, tmp_path):
    x = torch.randn(1, 4, 4, 3)
    expected = foveal.ops.gelu_pool(x, (2, 2))
    monkeypatch.setattr(native, "_reason", None)
    if OTHER_KERNELS[other]:
        monkeypatch.setattr(native, "_library", other_library(tmp_path, OTHER_KERNELS[other]))
    native.Kernel("gelu_pool", pooling._Call if OTHER_KERNELS[other] else Longer)
    explanation = foveal.ops.explain("gelu_pool", x, (2, 2))
    assert explanation.chosen == "torch"
    assert "older or newer than this Python code: run `make native`" in explanation.reasons["cpu"]
    assert_same(foveal.ops.gelu_pool(x, (2, 2)), expected, 16)
    with pytest.raises(BackendError, match="older or newer"), foveal.ops.use_backend("cpu"):
        foveal.ops.gelu_pool(x, (2, 2))


@kernels
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=["fp64", "bf16"])
@every_operator
def test_the_default_dtype_does_not_change_results(operator, default):
    call = Call(operator, dim=9, width=19)
    tensors = call.tensors(torch.float32)
    expected = call.run_with_gradients(tensors, "cpu")
    torch.set_default_dtype(default)
    try:
        found = call.run_with_gradients(tensors, "cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@kernels
@every_operator
def test_nan_propagates_from_every_argument(operator):
    call = Call(operator, dim=9)
    for name in call.tensors(torch.float32):
        tensors = call.tensors(torch.float32)
        tensors[name].flatten()[0] = torch.nan
        assert not call.run(tensors, "cpu").isfinite().all(), name


@kernels
@pytest.mark.parametrize("width", [32, 33, 65])
@every_operator
def test_slices_of_wide_maps_are_within_the_error_budget(operator, width):
    """As for slices of a layer's output: channels are contiguous, pixels are further apart."""
    call = Call(operator, height=3, width=width, dim=24, heads=2)
    tensors = {n: torch.cat([t, t.new_full((*t.shape[:-1], 5), torch.nan)], -1)[..., : t.shape[-1]] if t.ndim > 3 else t
               for n, t in call.tensors(torch.float32).items()}  # fmt: skip
    exact = call.run_with_gradients({name: t.double() for name, t in tensors.items()}, "reference")
    plain = call.run_with_gradients(tensors, "reference")
    found = call.run_with_gradients(tensors, "cpu")
    for name, value in exact.items():
        assert_within_budget(found[name], plain[name], value, call.reduction, name)


@every_operator
def test_forward_mode_derivatives_match_the_reference(operator):
    call = Call(operator, batch=1, height=3, width=4, heads=1, dim=4)
    tensors = call.tensors(torch.float32)
    first = next(iter(tensors))

    def output(x, backend=None):
        return call.run({**tensors, first: x}, backend)

    _, tangent = torch.func.jvp(output, (tensors[first],), (torch.ones_like(tensors[first]),))
    exact = {name: t.double() for name, t in tensors.items()}

    def exact_output(x):
        return call.run({**exact, first: x}, "reference")

    _, expected = torch.func.jvp(exact_output, (exact[first],), (torch.ones_like(exact[first]),))
    assert_same(tangent, expected.float(), call.reduction * 100)
    with pytest.raises(BackendError, match=r"inside a transform of torch.func"):
        torch.func.jvp(lambda x: output(x, "torch"), (tensors[first],), (torch.ones_like(tensors[first]),))


def test_linear_layers_have_correct_forward_mode_derivatives():
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    _, tangent = torch.func.jvp(lambda x: linear(x, weight), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.T)


def test_linear_layers_reject_mismatched_shapes():
    x, weight = torch.zeros(4, 8), torch.zeros(6, 8)
    with torch.no_grad(), pytest.raises(RuntimeError, match="must match"):
        foveal.ops.linear.linear_add(x, weight, None, torch.zeros(3, 6))
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes"):
        linear(x, torch.zeros(6, 7))


def test_flop_counter_mode_counts_linear_layers():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        linear(torch.zeros(4, 8), torch.zeros(6, 8))
    assert counter.get_total_flops() == 2 * 4 * 8 * 6


def test_bf16_works_on_processors_without_bf16():
    program = (
        "import torch, timm, foveal; net = timm.create_model('transnext_atto').eval();"
        "print(foveal.optimize(net, torch.bfloat16)(torch.zeros(1, 3, 64, 64)).dtype)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == "torch.bfloat16"
