"""Nothing is timed if an operator fails its check."""

from dataclasses import replace

import pytest
import torch

from foveal.bench import check
from foveal.bench.arguments import normal
from foveal.bench.check import CASES, check_operators
from foveal.bench.operators import SHAPES
from foveal.errors import FovealError
from foveal.ops.backend import _operators
from support.accuracy import relative_error, rounding


def replace_backend(monkeypatch, operator, backend, wrap):
    """Wrap the output of one implementation in `wrap(output, inputs)`."""
    found = _operators[operator]
    changed = [
        replace(one, run=lambda *call, one=one: wrap(one.run(*call), call)) if one.name == backend else one
        for one in found.implementations
    ]
    monkeypatch.setattr(found, "implementations", tuple(changed))


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 1.05 * grad


def failing(*_):
    raise RuntimeError("no kernel image is available\nfor this device")


def test_every_operator_of_training_is_checked_and_timed():
    """Others are for inference alone: their tests compare them with their layers, and models time them."""
    for_inference = {"convolutional_glu", "idconv", "multiscale_ffn"}
    assert set(CASES) == set(SHAPES) == set(_operators) - for_inference


def test_working_operators_pass_and_progress_is_reported():
    reported = []
    check_operators("cpu", ("fp32", "bf16"), training=True, on_step=lambda done, total: reported.append((done, total)))
    assert reported[-1] == (len(reported), len(reported))
    assert len(reported) == sum(map(len, CASES.values())) * 3  # fp32; bf16 cast; bf16 with float32 parameters


def test_attention_is_checked_with_a_dense_bias_half_pixels_on_each_axis_and_a_resized_table_without_a_window():
    kinds = set()
    for case in CASES["aggregated_attention"]:
        drawn = case(normal("cpu"))
        table = drawn.parameters.get("pool_bias_table")
        sizes = drawn.activations["q"].shape[1:3]
        kind = "dense" if table is None else tuple(d == 4 * n - 3 for d, n in zip(table.shape[1:], sizes))
        kinds.add("resized, no window" if {"k", "table_sizes"} <= drawn.constants.keys() else kind)
    assert kinds == {"dense", (True, False), (False, True), "resized, no window"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_error_budget_matches_the_operator_tests(dtype):
    exact = torch.linspace(-3, 2, 50, dtype=torch.float64)
    plain = (exact * 1.001).to(dtype)
    assert check._budget(plain, exact, dtype, 900) == 2 * relative_error(plain, exact) + rounding(dtype, 900)


@pytest.mark.parametrize("operator", CASES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_wrong_output_is_rejected_by_operator_and_backend(monkeypatch, operator, dtype):
    backend = next(one.name for one in _operators[operator].implementations if one.name in ("cpu", "torch"))
    replace_backend(monkeypatch, operator, backend, lambda out, call: 1.02 * out)
    sentence = rf"Nothing is timed, because {operator} on backend {backend} in {dtype} is off .*output"
    with pytest.raises(FovealError, match=sentence):
        check_operators("cpu", (dtype,), training=False)


def test_a_single_nan_is_rejected(monkeypatch):
    def spoil(out, call):
        return out.index_fill(1, torch.tensor([0]), torch.nan)

    replace_backend(monkeypatch, "gated_dwconv", "torch", spoil)
    with pytest.raises(FovealError, match="off by inf"):
        check_operators("cpu", ("fp32",), training=False)


def test_a_wrong_gradient_is_rejected_if_training_is_timed(monkeypatch):
    replace_backend(monkeypatch, "dynamic_dwconv", "torch", lambda out, call: WrongGradient.apply(out))
    check_operators("cpu", ("fp32",), training=False)
    with pytest.raises(FovealError, match="gradient of x"):
        check_operators("cpu", ("fp32",), training=True)


def test_an_operator_that_raises_is_rejected_in_one_line(monkeypatch):
    replace_backend(monkeypatch, "aggregated_attention", "torch", failing)
    with pytest.raises(FovealError, match="fails: no kernel image is available: run `make test`"):
        check_operators("cpu", ("fp32",), training=False)
