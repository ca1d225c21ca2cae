"""The predicted memory of a training step matches the actual one."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from foveal.training.config import TrainConfig
from foveal.training.footprint import footprint

MIB = 2**20

# Resident memory added by a second step, in a separate process per model, forked before any computation so that
# nothing else affects it.
MEASURE = """
import ctypes, gc, os, re, sys
from pathlib import Path
libc = ctypes.CDLL(None)
libc.mallopt(-3, 128 << 10); libc.mallopt(-1, 128 << 10)  # large blocks go back at once
import timm, torch, foveal
import torch.nn.functional as F
torch.set_num_threads(1)
batch, size, *names = sys.argv[1:]
batch, size = int(batch), int(size)
for name in names:
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        break
else:
    sys.exit()
net = timm.create_model(name, num_classes=100).train().to(memory_format=torch.channels_last)
for module in net.modules():  # a watched batch norm is not fused, as on other devices
    if isinstance(module, torch.nn.BatchNorm2d):
        module.register_forward_hook(lambda *call: None)
def step():
    images = torch.empty(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    F.cross_entropy(net(images), torch.zeros(batch, dtype=torch.long)).backward()
def resident(field):
    return int(re.search(rf"^{field}:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.M)[1]) * 1024
step()
net.zero_grad(set_to_none=True)
gc.collect(); libc.malloc_trim(0); Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
step()
print(name, resident("VmHWM") - before)
"""


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=100)


def step_of(batch: int, size: int):
    def step(net):
        images = torch.empty(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(net(images).float(), torch.zeros(batch, dtype=torch.long))

    return step


MODELS, BATCH, SIZE = ("transnext_atto", "transxnet_atto"), 8, 160


@pytest.fixture(scope="module")
def grown():
    """The bytes that a step of each model takes, as printed by the processes."""
    words = [sys.executable, "-c", MEASURE, str(BATCH), str(SIZE), *MODELS]
    said = subprocess.run(words, capture_output=True, text=True)
    found = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", said.stdout)}
    assert found.keys() == set(MODELS), said.stderr
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not report it")
@pytest.mark.parametrize("name", MODELS)
def test_a_real_step_grows_the_process_as_predicted(name, grown):
    """Within 10 %; the measured difference is 3 %."""
    predicted = footprint(on_meta(name), TrainConfig(), 1, step_of(BATCH, SIZE))
    assert predicted.activations + predicted.gradients == pytest.approx(grown[name], rel=0.1)


def test_the_footprint_matches_a_manual_count():
    """Two linear layers with a tanh: each layer saves its input, and gradients arrive before anything is freed."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(1000, 2000, bias=False), nn.Tanh(), nn.Linear(2000, 10, bias=False))
    config = TrainConfig(ema_decay=0.9, channels_last=False)
    found = footprint(net, config, 2, lambda model: model(torch.empty(500, 1000)).sum())
    weights = 4 * (1000 * 2000 + 2000 * 10)
    assert (found.weights, found.gradients, found.exchange, found.average) == (weights,) * 4
    assert found.optimizer == 2 * weights + 2 * 4  # AdamW: two moments, and a step count per tensor
    image, hidden = 4 * 500 * 1000, 4 * 500 * 2000
    kept = image + hidden  # the input and tanh's output
    arriving = 2 * hidden  # input and output gradients of tanh
    assert kept + arriving <= found.activations <= 1.05 * (kept + arriving)
    assert found.total == 4 * weights + found.optimizer + found.activations


def test_gradient_checkpointing_and_half_precision_need_less_memory():
    config = TrainConfig()
    whole = footprint(on_meta("transnext_atto"), config, 1, step_of(8, 96)).activations
    recomputed = footprint(on_meta("transnext_atto"), replace(config, grad_checkpointing=True), 1, step_of(8, 96))
    half = footprint(on_meta("transnext_atto"), replace(config, precision="bf16"), 1, step_of(8, 96))
    assert recomputed.activations < 0.8 * whole
    assert half.activations < 0.8 * whole


def test_the_model_is_unchanged():
    net = on_meta("transxnet_atto").eval()
    footprint(net, TrainConfig(), 1, step_of(2, 64))
    assert not net.training
    assert all(p.is_meta and p.grad is None for p in net.parameters())


def test_sync_batch_norm_of_a_single_position_can_be_planned():
    """One position of one image is too few for batch norm, but in a real run other processes contribute theirs."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(64))

    def activations(images, **settings):
        return footprint(net, TrainConfig(**settings), 8, lambda net: net(torch.empty(images, 3, 64, 64)).sum())

    one, two, apart = activations(1, sync_bn=True), activations(2, sync_bn=True), activations(2)
    assert two.activations == pytest.approx(2 * one.activations, rel=0.01)
    assert two.activations == pytest.approx(apart.activations, rel=0.01)
