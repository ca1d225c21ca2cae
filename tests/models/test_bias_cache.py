"""Outside training the position bias is computed once per image size, and the cache is never stale."""

import copy
import io
import pickle

import pytest
import torch

import foveal
from foveal.models import position_bias
from foveal.models.layers import position_table
from foveal.ops import use_backend
from foveal.ops.aggregated_attention.offsets import expand_table
from foveal.ops.native import why_unavailable
from support.nets import atto, gradients, image

BLOCKS = 4  # attention layers of the shallow model, each with its own bias


class Counter:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)

    def during(self, call) -> int:
        before = self.calls
        call()
        return self.calls - before


@pytest.fixture
def runs(monkeypatch) -> Counter:
    """Counts the runs of the position bias MLP."""
    counter = Counter(position_bias._offset_table)
    monkeypatch.setattr(position_bias, "_offset_table", counter)
    return counter


def answer(net, size=(64, 64)):
    with torch.no_grad():
        return net(image(*size).to(next(net.parameters()).dtype))


def fresh_answer(net, size=(64, 64)):
    """Output of a copy of the model with an empty cache."""
    return answer(copy.deepcopy(net), size)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("bias", ["extrapolate", "interpolate"])
def test_the_bias_is_computed_once_per_size(bias, mode, runs):
    net = atto(position_bias=bias)

    def call(*size):
        with mode():
            net(image(*size))

    assert runs.during(lambda: call(64, 64)) == BLOCKS
    assert runs.during(lambda: call(64, 64)) == 0
    # A table at the reference size serves every size.
    reference = bias == "interpolate" and why_unavailable() is None
    assert runs.during(lambda: call(96, 64)) == (0 if reference else BLOCKS)
    assert runs.during(lambda: [call(64, 64), call(96, 64), call(64, 64)]) == 0


def test_frozen_weights_are_cached_in_training_too(runs):
    net = atto().requires_grad_(False)
    for parameter in net.head.parameters():
        parameter.requires_grad_(True)
    assert runs.during(lambda: net(image(64, 64))) == BLOCKS
    assert runs.during(lambda: net(image(64, 64)).sum().backward()) == 0


def test_gradients_flow_in_evaluation_mode_after_a_cached_call(runs):
    net = atto()
    answer(net)
    assert runs.during(lambda: gradients(net, image(64, 64))) == BLOCKS
    expected = gradients(copy.deepcopy(net), image(64, 64))
    found = gradients(net, image(64, 64))
    for name in ("stages.0.blocks.0.attn.cpb_fc1.weight", "stages.3.blocks.0.attn.cpb_fc2.bias"):
        assert found[name].any()
        assert torch.equal(found[name], expected[name])


def written_in_place(net):
    with torch.no_grad():
        net.stages[0].blocks[0].attn.cpb_fc2.bias.add_(1.0)


def stepped(net):
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    net(image(64, 64)).square().sum().backward()
    optimiser.step()


def loaded(net):
    net.load_state_dict({name: tensor + 0.1 for name, tensor in net.state_dict().items()})


def assigned(net):
    state = {name: tensor + 0.1 for name, tensor in net.state_dict().items()}
    net.load_state_dict(state, assign=True)


def replaced(net):
    fc = net.stages[1].blocks[0].attn.cpb_fc1
    fc.weight = torch.nn.Parameter(fc.weight.detach() * 2)


def written_through_data(net):
    """Not seen by PyTorch's version counter, as the cache documents, until the mode is set."""
    net.stages[0].blocks[0].attn.cpb_fc2.bias.data.add_(1.0)
    net.eval()


CHANGES = {
    "in-place write": written_in_place,
    "optimiser step": stepped,
    "load_state_dict": loaded,
    "load_state_dict with assign": assigned,
    "replaced parameter": replaced,
    "write through .data": written_through_data,
    "train and eval": lambda net: (net.train(), net.eval()),
    "double": lambda net: net.double(),
    "bf16": lambda net: net.bfloat16(),
    "bf16 and back": lambda net: net.bfloat16().float(),
    "another img_size": lambda net: net.set_input_size(96),
    "linear mode": lambda net: net.set_input_size(pool_size=1),
    "another pre-training size": lambda net: net.set_input_size(pretrain_size=96),
    "extrapolation": lambda net: net.set_input_size(position_bias="extrapolate"),
    "to_empty and load": lambda net: (
        state := copy.deepcopy(net.state_dict()),
        net.to_empty(device="cpu").load_state_dict(state),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_follows_changes(change):
    net = atto(position_bias="interpolate")
    answer(net)
    CHANGES[change](net)
    assert torch.equal(answer(net), fresh_answer(net))


@pytest.mark.parametrize("change", ["in-place write", "load_state_dict", "optimiser step", "linear mode"])
def test_these_changes_do_change_the_output(change):
    """Otherwise the previous test would be vacuous."""
    net = atto(position_bias="interpolate")
    before = answer(net)
    CHANGES[change](net)
    assert not torch.equal(answer(net), before)


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_a_model_used_in_inference_mode_can_be_trained_afterwards(family):
    net = atto(family)
    with torch.inference_mode():
        expected = net(image(96, 64))
    assert torch.equal(answer(net, (96, 64)), expected)
    frozen = atto(family).requires_grad_(False)
    with torch.inference_mode():
        frozen(image(96, 64))
    x = image(96, 64).requires_grad_()
    frozen(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(net, image(96, 64)).values())


def test_a_model_created_in_inference_mode_works():
    with torch.inference_mode():
        net = atto()
        assert torch.equal(net(image(64, 64)), net(image(64, 64)))


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_copies_give_the_same_output_and_carry_no_cache(family, way):
    net = atto(family)
    fresh = len(pickle.dumps(net))
    before = answer(net, (96, 64))
    assert len(pickle.dumps(net)) == fresh
    twin = way(net)
    assert torch.equal(answer(twin, (96, 64)), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(answer(net, (96, 64)), before)


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_the_cache_is_not_part_of_the_state_dict(family):
    net = atto(family)
    names = list(net.state_dict())
    answer(net, (96, 64))
    assert list(net.state_dict()) == names
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(answer(torch.load(file, weights_only=False), (96, 64)), answer(net, (96, 64)))


def test_cache_memory_is_bounded():
    """The last size is always kept; older ones are kept while they fit."""
    net = atto()
    cache = net.stages[0].blocks[0].attn._bias_cache
    cache.budget = 50_000
    for side in range(64, 160, 8):
        answer(net, (side, side))
        assert len(cache) == 1 or sum(t.nbytes for t in cache._results.values()) <= cache.budget
    assert torch.equal(answer(net, (64, 64)), fresh_answer(net))


def kept_numbers(net):
    return sum(t.numel() for t in net.stages[0].blocks[0].attn._bias_cache._results.values())


def test_a_table_of_offsets_is_cached_instead_of_the_dense_bias():
    """Where the kernels cannot read tables, the dense bias of queries and pooled keys is cached."""
    table, resized, dense = atto(), atto(position_bias="interpolate", img_size=96), atto()
    for each in (table, resized):
        answer(each, (256, 256))
    with use_backend("torch"):
        answer(dense, (256, 256))
    assert kept_numbers(dense) == 64**2 * 8**2
    assert kept_numbers(table) == ((2 * 64 - 8) ** 2 if why_unavailable() is None else 64**2 * 8**2)
    assert kept_numbers(resized) == ((2 * 24 - 8) ** 2 if why_unavailable() is None else 64**2 * 8**2)


def dropping(net):
    """Training mode with attention dropout and frozen weights."""
    for stage in net.stages:
        for block in stage.blocks:
            block.attn.attn_drop = 0.1
    return net.requires_grad_(False).train()


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (lambda: atto(), "torch"),
        (lambda: atto(), "reference"),
        (lambda: atto().double(), None),
        (lambda: atto().half(), None),
        (lambda: foveal.optimize(atto(), torch.float16, memory=False), None),
        (lambda: atto(window_size=(65, 3, 3, 3)), None),
        (lambda: dropping(atto()), None),
    ],
    ids=["torch", "reference", "fp64", "fp16", "folded, fp16", "a wide window", "dropout"],
)
def test_the_dense_bias_is_cached_if_no_kernel_reads_tables(make, backend):
    net = make()
    with use_backend(backend):
        answer(net)
    assert kept_numbers(net) == 16**2 * 2**2


@torch.no_grad()
def test_the_expanded_table_equals_the_dense_bias():
    attention = atto().stages[0].blocks[0].attn
    for size in ((16, 24), (13, 9)):
        found = expand_table(attention._position_bias_table(size), size, attention.key_size(size))
        assert torch.equal(found, attention.position_bias(*size))


def test_resized_transxnet_tables_are_cached_and_follow_changes(monkeypatch):
    counter = Counter(position_table.resize_table)
    monkeypatch.setattr(position_table, "resize_table", counter)
    net = atto("transxnet")
    assert counter.during(lambda: answer(net, (96, 64))) == 4
    assert counter.during(lambda: answer(net, (96, 64))) == 0
    with torch.no_grad():
        net.stages[0].position_bias.table.mul_(2.0)
    assert counter.during(lambda: answer(net, (96, 64))) == 1
    assert torch.equal(answer(net, (96, 64)), fresh_answer(net, (96, 64)))
    assert gradients(net, image(96, 64))["stages.1.position_bias.table"].any()


def test_autocast_leaves_no_trace_in_the_cache():
    net = atto(position_bias="interpolate")
    with torch.autocast("cpu", torch.bfloat16):
        answer(net)
    assert torch.equal(answer(net), fresh_answer(net))
