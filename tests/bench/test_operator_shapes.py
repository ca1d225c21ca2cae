"""Operators are timed on the inputs they receive in the models."""

import pytest
import timm
import torch

from foveal import ops
from foveal.bench.operators import SHAPES, OperatorSubject, moved_bytes, operator_subjects, places
from foveal.bench.settings import Setting
from foveal.models.layers import (
    aggregated_attention,
    convolutional_glu,
    cosine_attention,
    depthwise,
    idconv,
    multiscale_ffn,
)

CALLERS = {
    "aggregated_attention": ("transnext_tiny", [aggregated_attention, cosine_attention]),
    "gelu_pool": ("transnext_tiny", [aggregated_attention]),
    "gated_dwconv": ("transnext_tiny", [convolutional_glu]),
    "dynamic_dwconv": ("transxnet_s", [idconv]),
    "multiscale_dwconv": ("transxnet_s", [depthwise, multiscale_ffn]),
}
FFN_KERNELS = 4  # TransXNet also has depthwise convolutions with a single kernel


def pooled(x, size):
    return x.new_empty(len(x), *size, x.shape[-1])


def meta(*shape, spread=1.0):
    return torch.empty(shape, device="meta")


def drawn(operator, setting, stage):
    return SHAPES[operator][0](meta, setting, stage)


@pytest.fixture(scope="module")
def calls():
    """Operator -> shapes and strides of the arguments of every call, on the meta device, at 224 x 160."""
    seen = {operator: [] for operator in CALLERS}

    def watch(operator):
        def call(*args, **named):
            lists = [arg if isinstance(arg, list) else [arg] for arg in (*args, *named.values())]
            tensors = [t for one in lists for t in one if isinstance(t, torch.Tensor)]
            windowless = named.get("window") == 0  # the last stage's attention is not a place of its own
            if not windowless and (operator != "multiscale_dwconv" or len(args[1]) == FFN_KERNELS):
                seen[operator].append([(tuple(t.shape), t.stride()) for t in tensors])
            if operator == "gelu_pool":
                return pooled(*args)
            return torch.empty_like(tensors[0].chunk(2, -1)[0] if operator == "gated_dwconv" else tensors[0])

        return call

    with pytest.MonkeyPatch.context() as patch:
        for operator, (_, modules) in CALLERS.items():
            for module in modules:
                patch.setattr(module, operator, watch(operator))
        for name in ("transnext_tiny", "transxnet_s"):
            timm.create_model(name, device="meta").eval()(torch.empty(2, 3, 224, 160, device="meta"))
    return seen


@pytest.mark.parametrize("operator", CALLERS)
def test_shapes_and_layouts_match_those_in_the_models(calls, operator):
    setting = Setting(batch=2, height=224, width=160)
    stages = list(dict.fromkeys(map(tuple, calls[operator])))
    assert len(stages) == SHAPES[operator][1]
    for stage, arguments in enumerate(stages):
        ours = [(tuple(t.shape), t.stride()) for t in drawn(operator, setting, stage).tensors.values()]
        assert [shape for shape, _ in ours] == [shape for shape, _ in arguments]
        activations = len(drawn(operator, setting, stage).activations)
        if operator in ("aggregated_attention", "gated_dwconv"):  # views of a larger tensor
            assert ours[:activations] == list(arguments[:activations])


def test_the_combined_place_has_every_attention_layer_of_the_model(calls):
    together = places()[-1]
    assert len(together.stages) == len(calls["aggregated_attention"]) == 19


def test_moved_bytes_match_the_design():
    """The design: 3.44 GB forward and 6.03 GB backward for the 19 layers at batch 256 in bf16."""
    setting = Setting(batch=256, dtype="bf16")
    forward = training = 0
    for stage in places()[-1].stages:
        call = drawn("aggregated_attention", setting, stage).to(torch.bfloat16, torch.bfloat16)
        out = torch.empty_like(call.activations["q"])
        forward += moved_bytes(call, out, training=False)
        training += moved_bytes(call, out, training=True)
    assert forward / 1e9 == pytest.approx(3.44, rel=0.03)
    assert (training - forward) / 1e9 == pytest.approx(6.03, rel=0.03)


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("place", places(), ids=lambda place: f"{place.operator} {place.title}")
def test_every_place_runs_on_every_backend_that_supports_it(place, mode):
    setting = Setting(mode, "bf16", 1, 64, 32)
    able, reasons = operator_subjects(place, setting)
    assert {"reference"} <= {subject.form for subject in able}
    assert all(reasons.values())
    for subject in able:
        prepared = subject.prepare(setting)
        prepared.call()
        assert prepared.moved > prepared.held > 0


def test_the_same_setting_draws_the_same_values():
    setting = Setting(batch=1, height=32, width=32)
    one, other = (OperatorSubject(places()[0], "torch").place.draw(setting)[0].tensors for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_backends_that_read_tables_are_timed_with_a_pool_bias_table(monkeypatch):
    place, setting, given = places()[0], Setting(batch=1, height=64, width=32), {}
    operator = ops.aggregated_attention
    for subject in operator_subjects(place, setting)[0]:
        biases = given.setdefault(subject.form, {})
        monkeypatch.setattr(
            ops, "aggregated_attention", lambda seen=biases, **named: (seen.update(named), operator(**named))[1]
        )
        subject.prepare(setting).call()
    assert {form: "pool_bias_table" in named for form, named in given.items()} == {
        form: form in ("triton", "cpu") for form in given
    }
    assert all(("pool_bias" in named) != ("pool_bias_table" in named) for named in given.values())
