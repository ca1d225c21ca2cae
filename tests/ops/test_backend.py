"""Backend selection: the choice, its reasons, and no silent fallback."""

import re

import pytest
import torch

import foveal.ops
from foveal.ops import BackendError, explain, native, use_backend
from foveal.ops.backend import find_operator, known_backends
from support.operators import OPERATORS, Call

COMPILED = "torch" if native.why_unavailable() else "cpu"
FASTEST = {torch.float32: COMPILED, torch.bfloat16: COMPILED, torch.float16: "torch", torch.float64: "torch"}


def ran(call: Call, dtype: torch.dtype = torch.float64, **options) -> str:
    """The implementation that a call actually used, according to the autograd graph."""
    leaves = {name: t.requires_grad_() for name, t in call.tensors(dtype).items()}
    out = getattr(foveal.ops, call.operator)(**call.arguments(leaves), **options)
    return getattr(out.grad_fn, "constants", ("reference",))[-1]


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_fastest_supported_implementation_runs(operator):
    call = Call(operator)
    for dtype, expected in FASTEST.items():
        assert ran(call, dtype) == expected == explain(operator, **call.arguments(call.tensors(dtype))).chosen


@pytest.mark.parametrize("operator", OPERATORS)
def test_without_compiled_kernels_the_next_backend_runs_and_the_reason_is_reported(operator, monkeypatch):
    monkeypatch.setattr(native, "_NAME", "_a_file_that_is_not_there")
    with pytest.raises(native.Unavailable) as why:
        native._load()
    monkeypatch.setattr(native, "_reason", str(why.value))  # as set on import
    call = Call(operator)
    explanation = explain(operator, **call.arguments(call.tensors(torch.float32)))
    assert ran(call, torch.float32) == "torch" == explanation.chosen
    assert "no C++ compiler" in explanation.reasons["cpu"]
    with pytest.raises(BackendError, match=r"cannot run on backend 'cpu': the compiled kernels were not built"):
        call.run(call.tensors(torch.float32), "cpu")


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_unsupported_dtype_is_named_in_the_reason(operator):
    call = Call(operator)
    reason = explain(operator, **call.arguments(call.tensors(torch.float16))).reasons["cpu"]
    assert re.fullmatch(r".* must .*float32 or .*bfloat16, not float16", reason)


def test_an_unsupported_call_runs_on_the_next_implementation():
    call = Call("aggregated_attention")
    explanation = explain(foveal.ops.aggregated_attention, **call.tensors(torch.float32), dropout_p=0.1)
    assert ran(call, torch.float32, dropout_p=0.1) == "reference" == explanation.chosen
    assert "dropout" in explanation.reasons["torch"]
    assert explanation.reasons["reference"] is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_forced_implementation_runs_and_is_given_as_the_reason_for_others(operator):
    call = Call(operator)
    with use_backend("reference"):
        assert ran(call) == "reference"
        explanation = explain(operator, **call.arguments(call.tensors()))
    assert explanation.chosen == "reference"
    assert "use_backend('reference')" in explanation.reasons["torch"]


def test_a_forced_implementation_never_falls_back():
    call = Call("aggregated_attention", options=dict(dropout_p=0.5))
    with pytest.raises(BackendError, match="cannot run on backend 'torch': attention dropout"):
        call.run(call.tensors(), "torch")
    with use_backend("torch"):
        assert explain("aggregated_attention", **call.tensors(), dropout_p=0.5).chosen is None


def test_use_backend_blocks_nest_and_none_restores_the_automatic_choice():
    call = Call("gated_dwconv")
    with use_backend("reference"):
        with use_backend("torch"):
            assert ran(call) == "torch"
            with use_backend(None):
                assert ran(call) == "torch"
        assert ran(call) == "reference"
        with use_backend(None):
            assert ran(call) == "torch"
        assert ran(call) == "reference"
    assert ran(call) == "torch"


def test_an_exception_inside_use_backend_restores_the_choice():
    with pytest.raises(ZeroDivisionError), use_backend("reference"):
        raise ZeroDivisionError
    assert ran(Call("gated_dwconv")) == "torch"


def test_an_unknown_name_raises_an_error_that_lists_the_valid_ones():
    with (
        pytest.raises(ValueError, match=r"unknown backend 'cuda': choose one of .*cpu.*reference"),
        use_backend("cuda"),
    ):
        pass
    with pytest.raises(ValueError, match=r"unknown operator 'softmax': choose one of .*aggregated_attention"):
        explain("softmax")
    for unknown in (3, None, [3], len):
        with pytest.raises(ValueError, match=r"^unknown operator '.*': choose one of aggregated_attention"):
            explain(unknown)
    assert ran(Call("gated_dwconv")) == "torch"


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_explanation_lists_every_implementation(operator):
    call = Call(operator)
    text = str(explain(getattr(foveal.ops, operator), **call.arguments(call.tensors())))
    assert text.splitlines()[0] == f"{operator}: torch"
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert names == known_backends(find_operator(operator))
    assert {"cpu", "torch", "reference"} <= set(names)
    assert "  cpu        not taken: " in text


def test_explain_computes_nothing_and_validates_arguments():
    meta = {name: t.to("meta") for name, t in Call("aggregated_attention").tensors().items()}
    assert explain("aggregated_attention", **meta).chosen == "torch"
    with pytest.raises(ValueError, match="scale must have shape"):
        explain("aggregated_attention", **{**meta, "scale": torch.zeros(7, device="meta")})


def test_an_operator_without_the_forced_implementation_uses_the_automatic_choice():
    x = torch.zeros(1, 4, 4, 3)
    with use_backend("triton"):
        assert explain("gelu_pool", x, (2, 2)).chosen != "triton"
        assert foveal.ops.gelu_pool(x, (2, 2)).shape == (1, 2, 2, 3)
        with pytest.raises(BackendError, match="cannot run on backend 'triton': Triton needs a CUDA device"):
            foveal.ops.gated_dwconv(x, x, torch.zeros(3, 1, 3, 3))
