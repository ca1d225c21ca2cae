"""Released checkpoints as files, and small models, each created once per session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foveal.models import load_checkpoint
from golden.fill import filled_state
from support.checkpoints import RELEASED, shallow_net, shallow_state, snapshot


@pytest.fixture(scope="session")
def released_file(tmp_path_factory) -> Callable[[str], Path]:
    """Path of a released checkpoint with reproducible values, by Foveal's variant name."""
    folder = tmp_path_factory.mktemp("released")

    @cache
    def write(name: str) -> Path:
        path = folder / f"{name}.pth"
        torch.save(filled_state(RELEASED[name]), path)
        return path

    return write


@pytest.fixture(scope="session")
def shallow() -> Callable[[str], dict[str, Tensor]]:
    """A released state dict with one block per stage, by Foveal's variant name."""
    return cache(shallow_state)


@pytest.fixture(scope="session")
def loaded(shallow, tmp_path_factory) -> Callable[[str], dict[str, Tensor]]:
    """The model's state dict after loading that checkpoint from a plain state dict file."""
    folder = tmp_path_factory.mktemp("shallow")

    @cache
    def load(name: str) -> dict[str, Tensor]:
        torch.save(shallow(name), folder / f"{name}.pth")
        net = shallow_net(name)
        load_checkpoint(net, folder / f"{name}.pth")
        return snapshot(net)

    return load
