"""Run commands as the console script does, in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from foveal.cli.app import main
from support.colours import TINY, write_colours


@dataclass(frozen=True)
class Said:
    """Exit code and output of a command."""

    code: int
    out: str
    error: str

    def is_one_sentence(self, *parts: str) -> bool:
        """Whether stderr is one line without a traceback that contains all parts, and stdout is empty."""
        lines = self.error.splitlines()
        alone = len(lines) == 1 and lines[0].startswith("foveal: ") and lines[0].endswith(".") and not self.out
        return alone and "Traceback" not in self.error and all(part in self.error for part in parts)


@pytest.fixture
def foveal(capsys) -> Callable[..., Said]:
    """``foveal("train", RECIPE, ...)``; arguments may be of any type."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leave:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Said(leave.value.code, said.out, said.err)

    return run


@pytest.fixture
def files_read(monkeypatch) -> list[Path]:
    """The checkpoints loaded with ``torch.load``, in order."""
    read, load = [], torch.load

    def recorded(file, *args, **kwargs):
        read.append(Path(file))
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", recorded)
    return read


@pytest.fixture
def colours(tmp_path) -> Path:
    """A dataset folder with three classes, 8 training and 4 validation images each."""
    return write_colours(tmp_path / "colours")


@pytest.fixture
def quick() -> list[str]:
    """Options with which the digits recipe trains a tiny model on a few images in a second."""
    return [*TINY]


@pytest.fixture
def trained(foveal, colours, quick, tmp_path) -> Path:
    """The ``best.pt`` of such a run on ``colours``."""
    out = tmp_path / "trained"
    said = foveal("train", "digits.transnext_atto", "--data", colours, "--out", out, *quick)
    assert said.code == 0, said.error
    return out / "best.pt"
