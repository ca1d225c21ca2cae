"""Multiply-adds and parameters: the papers' values to their printed precision, and a toy model counted by hand."""

from dataclasses import asdict

import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.cli.lists import models
from foveal.models.catalogue import catalogue
from foveal.ops import aggregated_attention, dynamic_dwconv, gated_dwconv
from support.nets import NAMES, atto, image, on_meta, shrunk

KINDS = {"conv", "linear", "matmul", "norm", "pool"}

# name: size, parameters (M) and multiply-adds (G) counted on the released models, then the papers' multiply-adds (G).
COUNTED = {
    "transnext_micro.in1k": (224, 12.809, 2.664, 2.7),
    "transnext_tiny.in1k": (224, 28.259, 5.734, 5.7),
    "transnext_small.in1k": (224, 49.742, 10.330, 10.3),
    "transnext_base.in1k": (224, 89.721, 18.354, 18.4),
    "transnext_small.in1k_384": (384, 49.742, None, 32.1),
    "transnext_base.in1k_384": (384, 89.721, None, 56.3),
    "transnext_micro_aaaa.in1k_256": (256, 13.114, None, 3.3),
    "transxnet_t.in1k": (224, 12.835, 1.846, 1.8),
    "transxnet_s.in1k": (224, 26.864, 4.686, 4.5),
    "transxnet_b.in1k": (224, 48.009, 8.474, 8.3),
    "transxnet_b.in1k_384": (384, None, None, 24.2),
}
CONVOLUTIONS = {"transxnet_t": 1.751, "transxnet_s": 4.506, "transxnet_b": 8.209}


@pytest.fixture(scope="module")
def entries():
    """The model catalogue, which counts with `foveal.flops`."""
    return {entry.name: entry for entry in catalogue()}


@pytest.mark.parametrize("name", COUNTED)
def test_counts_match_the_released_models_and_the_papers(name, entries):
    size, params, macs, printed = COUNTED[name]
    entry = entries[name]
    assert entry.size == size
    assert params is None or round(entry.params / 1e6, 3) == params
    assert macs is None or round(entry.macs / 1e9, 3) == macs
    assert round(entry.paper_macs / 1e9, 1) == printed


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_transxnet_convolution_counts_match_the_released_models(name):
    assert round(foveal.flops(on_meta(name)).kinds["conv"] / 1e9, 3) == CONVOLUTIONS[name]


def test_every_released_checkpoint_is_counted():
    assert set(COUNTED) == set(timm.list_pretrained(["transnext*", "transxnet*"]))


@pytest.mark.parametrize("name", NAMES)
def test_kinds_and_modules_sum_to_the_total(name):
    net = shrunk(name, device="meta")
    count = foveal.flops(net, (64, 96))
    assert set(count.kinds) == KINDS
    assert sum(count.kinds.values()) == count.macs == count.modules[""].macs
    assert list(count.modules) == [n for n, _ in net.named_modules()]
    assert count.size == (64, 96)
    children = [n for n, _ in net.named_children()]
    assert sum(count.modules[n].macs for n in children) == count.macs
    assert sum(count.modules[n].params for n in children) == count.params == sum(p.numel() for p in net.parameters())
    stages = [count.modules[f"stages.{i}"].macs for i in range(4)]
    assert all(stages)
    assert sum(stages) == count.modules["stages"].macs


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_counting_is_independent_of_training_mode_and_leaves_the_model_unchanged(family):
    net = atto(family)
    evaluated = foveal.flops(net, (96, 64))
    net.train()
    net.stages[1].eval()
    net.stages[0].requires_grad_(False)
    state = {n: t.clone() for n, t in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    parameters = [id(p) for p in net.parameters()]
    assert foveal.flops(net, (96, 64)) == evaluated
    assert [m.training for m in net.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()] == hooks
    assert [id(p) for p in net.parameters()] == parameters
    assert all(torch.equal(t, state[n]) and t.device.type == "cpu" for n, t in net.state_dict().items())
    assert not any(p.requires_grad for p in net.stages[0].parameters())


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_a_failed_count_leaves_the_model_unchanged(family):
    net = atto(family).train()
    with pytest.raises(ValueError, match="at least 32"):
        foveal.flops(net, 16)
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_cached_position_bias_is_still_counted():
    net = atto()
    before = foveal.flops(net, 64)
    with torch.no_grad():
        net(image(64, 64))
    assert foveal.flops(net, 64) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_counts_are_independent_of_dtype_and_device(family, dtype):
    expected = foveal.flops(shrunk(f"{family}_atto"), 64)
    assert foveal.flops(shrunk(f"{family}_atto", device="meta", dtype=dtype), 64) == expected


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_multiply_adds_grow_with_the_batch_and_parameters_do_not(family):
    net = atto(family)
    one, three = foveal.flops(net, 64), foveal.flops(net, 64, batch=3)
    assert three.params == one.params
    assert three.kinds["conv"] == 3 * one.kinds["conv"]
    assert three.macs > 2 * one.macs


def test_the_default_size_is_that_of_the_model():
    assert foveal.flops(atto(img_size=(96, 64))).size == (96, 64)
    assert foveal.flops(nn.Conv2d(3, 2, 1)).size == (224, 224)


@pytest.mark.parametrize(("options", "faster"), [(dict(pool_size=2), False), ({}, True)], ids=["linear", "normal"])
def test_attention_cost_is_linear_in_the_tokens_only_in_linear_mode(options, faster):
    net = atto(**options)
    once, twice = (foveal.flops(net, size).modules["stages.0.blocks.0.attn"].macs for size in ((64, 64), (64, 128)))
    assert (twice > 2 * once) == faster


class Toy(nn.Module):
    """One layer of each counted kind, for 8 x 8 images with 4 channels."""

    in_chans = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 10)
        self.bn = nn.BatchNorm2d(10)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        x = torch.relu(self.fc(self.norm(x))).permute(0, 3, 1, 2)
        x = self.pool(self.bn(x)).flatten(2)
        return x @ x.mT


def test_counts_of_a_toy_model_match_those_by_hand():
    count = foveal.flops(Toy(), 8)
    tokens = 4 * 4
    assert count.kinds == {
        "conv": tokens * 6 * 4 * 9,
        "linear": tokens * 6 * 10,
        "norm": 5 * tokens * 6 + 2 * tokens * 10,
        "pool": tokens * 10,
        "matmul": 10 * 4 * 10,
    }
    assert count.params == (6 * 4 * 9 + 6) + 2 * 6 + (60 + 10) + 2 * 10
    assert count.modules["fc"] == foveal.models.counting.ModuleCount(tokens * 60, 70)


class Operators(nn.Module):
    """Each operator once, on a 5 x 6 feature map with 2 heads of dimension 3."""

    in_chans = 6

    def forward(self, x):
        tokens = x.permute(0, 2, 3, 1)
        q = tokens.unflatten(-1, (2, 3))
        pooled = q[:, :2, :2]
        y = aggregated_attention(q, q, q, pooled, pooled, x.new_ones(2), window=5).flatten(3)
        y = gated_dwconv(y, y, x.new_ones(6, 1, 3, 3))
        return dynamic_dwconv(y, x.new_ones(1, 6, 7, 7))


def test_counts_of_the_operators_match_those_by_hand():
    """A window key costs one product each for similarity, positional attention and value; a pooled key costs two."""
    count = foveal.flops(Operators(), (5, 6))
    elements = 5 * 6 * 6
    assert count.kinds["matmul"] == elements * (3 * 25 + 2 * 4)
    assert count.kinds["conv"] == elements * 9 + elements * 49
    assert count.macs == count.kinds["matmul"] + count.kinds["conv"]


def test_a_count_is_printed_as_a_table_by_stage():
    lines = str(foveal.flops(atto(), 64)).splitlines()
    assert lines[1].startswith("all ")
    assert [line.split()[0] for line in lines if line.startswith("stages.")] == [f"stages.{i}" for i in range(4)]


def test_the_catalogue_lists_every_checkpoint_with_its_source(entries):
    ours = {name for name, entry in entries.items() if entry.top1 is None}
    assert ours == {"transnext_atto", "transnext_pico", "transxnet_atto"}
    assert set(entries) == ours | set(COUNTED)
    for name, entry in entries.items():
        homes = ("huggingface.co/DaiShiResearch/", "https://github.com/LMMMEng/TransXNet/")
        assert entry.home is None if name in ours else entry.home.startswith(homes)
        assert name in ours or entry.published_macs == COUNTED[name][3]
    assert [entry.name for entry in catalogue("aaaa")] == ["transnext_micro_aaaa.in1k_256"]
    assert catalogue("resnet") == []


def test_the_stored_list_of_models_is_the_catalogue(entries):
    """`make lists` writes it again."""
    assert [asdict(listed) for listed in models()] == [asdict(entry) for entry in entries.values()]


def test_top_1_matches_the_papers(entries):
    printed = {
        "transnext_micro.in1k": 82.5,
        "transnext_tiny.in1k": 84.0,
        "transnext_small.in1k": 84.7,
        "transnext_small.in1k_384": 86.0,
        "transnext_base.in1k": 84.8,
        "transnext_base.in1k_384": 86.2,
        "transxnet_t.in1k": 81.6,
        "transxnet_s.in1k": 83.8,
        "transxnet_b.in1k": 84.6,
        "transxnet_b.in1k_384": 85.5,
    }
    assert {name: entries[name].top1 for name in printed} == printed
