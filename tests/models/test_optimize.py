"""`foveal.optimize`: the same outputs from fewer operators, in every mode, for inference only."""

import copy
import pickle
from unittest import mock

import pytest
import timm
import torch
from torch import nn

import foveal
from support.accuracy import OUTPUT, relative_error
from support.nets import atto, image

FAMILIES = ("transnext", "transxnet")
every_family = pytest.mark.parametrize("family", FAMILIES)
MODES = {
    "transnext": [
        {},
        dict(pool_size=1),
        dict(position_bias="interpolate"),
        dict(length_scaling=False),
        dict(window_size=(7, 5, 3, 3)),
        dict(token_mixers="AAAA", sr_ratios=(16, 8, 4, 2)),
    ],
    "transxnet": [{}, dict(feature_norm=True, features_only=True), dict(img_size=96)],
}
CASES = [(family, options) for family in FAMILIES for options in MODES[family]]


def optimize(net, *args, **kwargs):
    return foveal.optimize(net, *args, memory=False, **kwargs)


def kernels_run(net, x) -> int:
    """Number of operators that compute something; views are excluded."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        net(x)
    views = (
        "view",
        "as_strided",
        "permute",
        "transpose",
        "slice",
        "select",
        "unflatten",
        "unbind",
        "reshape",
        "detach",
    )
    return sum(row.count for row in profile.key_averages() if not any(word in row.key for word in views))


def outputs(net, x):
    found = net(x)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize(("family", "options"), CASES, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (75, 101)], ids=str)
@torch.no_grad()
def test_outputs_agree_within_rounding(family, options, size):
    net = atto(family, **options)
    for found, expected in zip(outputs(optimize(net), image(*size, batch=2)), outputs(net, image(*size, batch=2))):
        assert relative_error(found, expected) <= OUTPUT / 10


@every_family
@torch.no_grad()
def test_double_precision_agrees_to_double_precision(family):
    net = atto(family).double()
    x = image(64, 96).double()
    assert relative_error(optimize(net)(x), net(x)) <= 1e-12


@every_family
@torch.no_grad()
def test_bf16_error_is_at_most_that_of_the_model_cast_to_bf16(family):
    net, x = atto(family), image(64, 96, batch=4)
    exact = net(x)
    plain = relative_error(copy.deepcopy(net).bfloat16()(x.bfloat16()).float(), exact)
    found = optimize(net, torch.bfloat16)(x)
    assert found.dtype is torch.bfloat16
    assert relative_error(found.float(), exact) <= 2 * plain + torch.finfo(torch.bfloat16).eps


@every_family
def test_fewer_operators_run(family):
    net, x = atto(family), image(64, 64)
    counts = []
    for form in (net, optimize(net)):
        with torch.no_grad():
            form(x)  # caches the position biases
            counts.append(kernels_run(form, x))
    assert counts[1] <= 0.8 * counts[0]


@every_family
@torch.no_grad()
def test_the_original_model_is_unchanged(family):
    net, x = atto(family), image(64, 64)
    state, expected = copy.deepcopy(net.state_dict()), net(x)
    optimize(net, torch.bfloat16)(x)
    assert torch.equal(net(x), expected)
    assert all(torch.equal(state[name], t) for name, t in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


@torch.no_grad()
def test_set_input_size_still_works():
    net, x = atto(), image(96, 64)
    folded = optimize(net)
    for change in (dict(pool_size=1), dict(position_bias="interpolate", img_size=96), dict(length_scaling=False)):
        net.set_input_size(**change)
        folded.set_input_size(**change)
        assert relative_error(folded(x), net(x)) <= OUTPUT / 10


@every_family
@torch.no_grad()
def test_copies_and_pickles_give_the_same_output(family):
    folded, x = optimize(atto(family)), image(64, 64)
    expected = folded(x)
    assert torch.equal(copy.deepcopy(folded)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(folded))(x), expected)


@every_family
@torch.no_grad()
def test_a_folded_model_compiles_without_graph_breaks(family):
    folded, x = optimize(atto(family)), image(64, 64)
    compiled = torch.compile(folded, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(x), folded(x)) <= OUTPUT / 10


def test_training_is_rejected():
    with pytest.raises(ValueError, match=r"call net.eval\(\) first"):
        optimize(atto().train())
    folded = optimize(atto())
    with pytest.raises(ValueError, match="cannot be trained"):
        folded.train()
    assert not any(p.requires_grad for p in folded.parameters())
    assert folded.eval() is folded


class Detector(nn.Module):
    """A third-party model with a Foveal backbone after a module that has a training mode."""

    def __init__(self, backbone):
        super().__init__()
        self.dropout, self.backbone = nn.Dropout(), backbone

    def forward(self, x):
        return self.backbone(self.dropout(x))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("form", ["net", "features", "detector"])
@every_family
def test_rejecting_train_leaves_every_module_in_evaluation_mode(family, form, compiled):
    net = atto(family, **dict(features_only=True) if form == "features" else {})
    folded = optimize(Detector(net).eval() if form == "detector" else net, compile=compiled)
    for one in (folded, copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        inner = [one.backbone, one.backbone.stages, one.backbone.stages[2]] if form == "detector" else []
        for refusing in (one, *inner):
            with pytest.raises(ValueError, match="cannot be trained"):
                refusing.train()
            assert not any(module.training for module in one.modules())


@every_family
def test_a_folded_model_keeps_its_class(family):
    net = atto(family)
    folded = optimize(net)
    assert isinstance(folded, type(net))
    assert (type(folded).__name__, type(folded).__module__) == (type(net).__name__, type(net).__module__)
    with pytest.raises(ValueError, match="optimized already"):
        optimize(folded)


@torch.no_grad()
def test_a_model_can_be_compiled_in_the_same_call():
    net, x = atto(), image(64, 64)
    with mock.patch("torch.compile", lambda run, **options: torch._dynamo.optimize("aot_eager")(run)):
        compiled = optimize(net, compile=True)
    assert relative_error(compiled(x), net(x)) <= OUTPUT / 10
    assert compiled.state_dict().keys() == optimize(net).state_dict().keys()


def test_a_model_without_foveal_blocks_is_rejected():
    with pytest.raises(ValueError, match="no block of TransNeXt or TransXNet"):
        optimize(timm.create_model("resnet18").eval())


def test_an_integer_dtype_is_rejected():
    with pytest.raises(ValueError, match=r"floating-point .* got torch.int8"):
        optimize(atto(), torch.int8)
