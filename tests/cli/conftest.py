"""Commands called as the console script calls them, within this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.cli.app import main


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    error: str

    def is_one_sentence(self, *parts: str) -> bool:
        """Whether stderr holds one line and no traceback, stdout nothing, and the line all the parts."""
        lines = self.error.splitlines()
        alone = len(lines) == 1 and lines[0].startswith("foveal: ") and lines[0].endswith(".") and not self.out
        return alone and "Traceback" not in self.error and all(part in self.error for part in parts)


@pytest.fixture
def foveal(capsys) -> Callable[..., Said]:
    """``foveal("train", RECIPE, ...)``; words may be of any type."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leave:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Said(leave.value.code, said.out, said.err)

    return run


@pytest.fixture
def files_read(monkeypatch) -> list[Path]:
    """The checkpoints that PyTorch has read since, in order."""
    read, load = [], torch.load

    def recorded(file, *args, **kwargs):
        read.append(Path(file))
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", recorded)
    return read


def _write(folder: Path, per_class: int) -> None:
    draw = np.random.default_rng(per_class)
    for label, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = draw.integers(0, 120, (20, 30, 3))
            pixels[..., 2 - label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture
def colours(tmp_path) -> Path:
    """A folder of three classes, 8 images each to train on and 4 to validate on."""
    _write(tmp_path / "colours" / "train", 8)
    _write(tmp_path / "colours" / "val", 4)
    return tmp_path / "colours"


@pytest.fixture
def quick() -> list[str]:
    """Words that make the digits' recipe train a tiny model on a few images in a second."""
    return ["--model", "test_convnext", "--epochs", "4", "--batch-size", "8", "--lr", "5e-3", "--workers", "0"]


@pytest.fixture
def trained(foveal, colours, quick, tmp_path) -> Path:
    """The best.pt of such a training on ``colours``."""
    out = tmp_path / "trained"
    said = foveal("train", "digits.transnext_atto", "--data", colours, "--out", out, *quick)
    assert said.code == 0, said.error
    return out / "best.pt"
