"""Which implementation runs: the choice, the reasons, and that nothing falls back in silence."""

import pytest
import torch

import foveal.ops
from foveal.ops import BackendError, explain, use_backend
from support.operators import OPERATORS, Call


def ran(call: Call, **options) -> str:
    """Which implementation a call really took, seen from what autograd recorded."""
    leaves = {name: t.requires_grad_() for name, t in call.tensors().items()}
    out = getattr(foveal.ops, call.operator)(**leaves, **options)
    return "cpu" if "foveal" in type(out.grad_fn).__name__.lower() else "reference"


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_fastest_implementation_without_a_reason_runs(operator):
    call = Call(operator)
    assert ran(call) == "cpu" == explain(operator, **call.tensors()).chosen


def test_a_call_that_the_fastest_cannot_take_goes_to_the_next():
    call = Call("aggregated_attention")
    explanation = explain(foveal.ops.aggregated_attention, **call.tensors(), dropout_p=0.1)
    assert ran(call, dropout_p=0.1) == "reference" == explanation.chosen
    assert "dropout" in explanation.reasons["cpu"]
    assert explanation.reasons["reference"] is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_forced_implementation_runs_and_the_others_say_so(operator):
    call = Call(operator)
    with use_backend("reference"):
        assert ran(call) == "reference"
        explanation = explain(operator, **call.tensors())
    assert explanation.chosen == "reference"
    assert "use_backend('reference')" in explanation.reasons["cpu"]


def test_a_forced_implementation_never_falls_back():
    call = Call("aggregated_attention", options=dict(dropout_p=0.5))
    with pytest.raises(BackendError, match="cannot run on backend 'cpu': attention dropout"):
        call.run(call.tensors(), "cpu")
    with use_backend("cpu"):
        assert explain("aggregated_attention", **call.tensors(), dropout_p=0.5).chosen is None


def test_blocks_nest_and_none_gives_the_choice_back():
    call = Call("gated_dwconv")
    with use_backend("reference"):
        with use_backend("cpu"):
            assert ran(call) == "cpu"
            with use_backend(None):
                assert ran(call) == "cpu"
        assert ran(call) == "reference"
        with use_backend(None):
            assert ran(call) == "cpu"
        assert ran(call) == "reference"
    assert ran(call) == "cpu"


def test_an_exception_inside_a_block_restores_the_choice():
    with pytest.raises(ZeroDivisionError), use_backend("reference"):
        raise ZeroDivisionError
    assert ran(Call("gated_dwconv")) == "cpu"


def test_an_unknown_name_is_answered_with_those_there_are():
    with (
        pytest.raises(ValueError, match=r"unknown backend 'cuda': choose one of .*cpu.*reference"),
        use_backend("cuda"),
    ):
        pass
    with pytest.raises(ValueError, match=r"unknown operator 'softmax': choose one of .*aggregated_attention"):
        explain("softmax")
    assert ran(Call("gated_dwconv")) == "cpu"


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_explanation_reads_as_text_with_every_implementation(operator):
    text = str(explain(getattr(foveal.ops, operator), **Call(operator).tensors()))
    assert text.splitlines()[0] == f"{operator}: cpu"
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["cpu", "reference"]


def test_explaining_computes_nothing_and_checks_arguments():
    meta = {name: t.to("meta") for name, t in Call("aggregated_attention").tensors().items()}
    assert explain("aggregated_attention", **meta).chosen == "cpu"
    with pytest.raises(ValueError, match="scale must have shape"):
        explain("aggregated_attention", **{**meta, "scale": torch.zeros(7, device="meta")})
