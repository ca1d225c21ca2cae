"""A task that trains in milliseconds: points of two classes and a tiny model."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveal.training.config import TrainConfig
from foveal.training.loading import evaluation_loader, train_loader


class Points(torch.utils.data.Dataset):
    """Noisy points: each access adds noise from the global generator, like an augmentation."""

    def __init__(self, count=48, noise=0.1):
        generator = torch.Generator().manual_seed(7)
        self.points = torch.randn(count, 3, generator=generator)
        self.labels = (self.points.sum(1) > 0).long()
        self.noise = noise

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index] + self.noise * torch.randn(3), self.labels[index]


class PointsTask:
    monitor = "top1"
    higher_is_better = True
    mixes = False
    notices = ()
    start = None

    def __init__(self, data=None, dropout=0.0, width=8):
        torch.manual_seed(3)
        self.data = data or Points()
        self.model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 2))
        self.train_size = len(self.data)
        self.losses = []
        self.before_loss = lambda count: None

    def train_loader(self, batching, draws, share, config):
        passes = config.epoch_steps is not None
        return train_loader(self.data, batching.device, draws, share, config.seed, config.workers, pass_by_pass=passes)

    def loss(self, model, batch):
        self.before_loss(len(self.losses))
        points, labels = batch
        logits = model(points)
        loss = F.cross_entropy(logits, labels)
        self.losses.append(loss.item())
        return loss, {"top1": 100.0 * (logits.argmax(1) == labels).float().mean()}

    def evaluate(self, model, processes, on_batch):
        sums = {"images": 0.0, "right": 0.0}
        loader = evaluation_loader(Points(noise=0.0), 16, processes.share, workers=0)
        for done, (points, labels) in enumerate(loader, start=1):
            sums["right"] += (model(points).argmax(1) == labels).sum().item()
            sums["images"] += len(labels)
            on_batch(done, len(loader))
        sums = processes.sum(sums)
        return {"top1": 100.0 * sums["right"] / sums["images"]}

    def metadata(self):
        return {"model": "points", "classes": ["below", "above"]}


#: A practically endless run that saves after every update.
LONG = TrainConfig(epochs=100_000, batch_size=8, lr=1e-3, warmup_epochs=0, ema_decay=0.9, workers=0, save_steps=1)


def long_run() -> PointsTask:
    """A task whose checkpoints (10 MB) take about as long to write as its updates take to compute."""
    return PointsTask(dropout=0.5, width=100_000)


@pytest.fixture(name="long_run")
def _long_run():
    return long_run, LONG


@pytest.fixture
def points():
    """The class of the task."""
    return PointsTask


@pytest.fixture
def config():
    """Four epochs of six updates, with everything stateful enabled."""
    return TrainConfig(
        epochs=4,
        batch_size=8,
        lr=1e-2,
        min_lr=1e-4,
        warmup_epochs=1,
        clip_norm=1.0,
        ema_decay=0.7,
        workers=0,
        log_every=1,
    )


@pytest.fixture
def change():
    """Replace settings; a shorter run has a shorter warm-up, as in recipes."""

    def changed(config, **settings):
        if "epochs" in settings:
            settings.setdefault("warmup_epochs", min(config.warmup_epochs, settings["epochs"] - 1))
        return replace(config, **settings)

    return changed


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
