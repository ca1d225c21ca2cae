"""What ``benchmarks/entropy.py`` and ``benchmarks/blockiness.py`` measure, on networks where the answer is known, and
what holds of the papers' claims with random weights (docs/claims.md)."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from foveal.report.explanation.subject import create_subject

FOLDER = Path(__file__).parents[2] / "benchmarks"
SIZES = (224, 448)
STAGES = range(4)


@pytest.fixture
def scripts(monkeypatch):
    """The two scripts as modules."""
    pytest.importorskip("skimage.data")
    pytest.importorskip("sklearn.datasets")
    monkeypatch.syspath_prepend(FOLDER)
    import blockiness
    import entropy

    yield entropy, blockiness
    for name in ("entropy", "blockiness"):
        sys.modules.pop(name)


def slopes(entropy, subject, **mode) -> list[float]:
    subject.body.set_input_size(**mode)
    blocks = [entropy.measure(subject, entropy.photographs()[:2], size) for size in SIZES]
    return [entropy.growth(blocks, stage) for stage in STAGES]


@torch.no_grad()
def alike(net: nn.Module) -> None:
    """Let all keys be alike to every query: no similarity and no position bias."""
    for module in net.modules():
        for name in ("temperature", "relative_pos_bias_local"):
            if isinstance(getattr(module, name, None), nn.Parameter):
                getattr(module, name).fill_(-100.0 if name == "temperature" else 0.0)
        if hasattr(module, "cpb_fc2"):
            module.cpb_fc2.weight.zero_()
            module.cpb_fc2.bias.zero_()


@pytest.mark.parametrize("length_scaling", [True, False])
def test_entropy_of_keys_that_are_alike_grows_as_the_logarithm_of_their_number(scripts, length_scaling):
    entropy, _ = scripts
    subject = create_subject("transnext_atto")
    alike(subject.body)
    assert slopes(entropy, subject, length_scaling=length_scaling) == pytest.approx([1] * 4, abs=1e-3)


def test_length_scaling_slows_the_growth_of_entropy_in_every_stage(scripts):
    """By 0.27 to 0.56 nats per nat of log n. It is not the invariance that equation 8 aims at, which would be 0."""
    entropy, _ = scripts
    subject = create_subject("transnext_atto")
    scaled, plain = (slopes(entropy, subject, length_scaling=on) for on in (True, False))
    assert all(0.1 < own < other - 0.2 for own, other in zip(scaled, plain, strict=True))
    assert min(plain) > 0.7


def test_receptive_fields_of_windows_are_blocky_and_those_of_aggregated_attention_are_not(scripts):
    """Two stages of 28 and 14 tokens a side, which are four and two windows of 7."""
    _, blockiness = scripts
    images = torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    small = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "img_size": 112}
    nets = {
        "windows": timm.create_model("swin_tiny_patch4_window7_224", **small),
        "aggregated": timm.create_model("transnext_atto"),
    }
    found = {}
    for name, net in nets.items():
        field = blockiness.EffectiveReceptiveField(net.eval())
        field.add(images)
        found[name] = blockiness.by_stage(field.result())
    assert [len(values) for values in found.values()] == [2, 2]
    assert min(found["windows"]) > 0.4
    assert max(found["aggregated"]) < 0.05
