"""Small generated image folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foveal  # noqa: F401 - registers the models


def write_images(folder: Path, per_class: dict[str, int], size=(24, 20), seed=0) -> None:
    """Write PNG files of noise around one colour per class."""
    draw = np.random.default_rng(seed)
    for label, (name, count) in enumerate(per_class.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (*size, 3)) + 60 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture
def images():
    return write_images


@pytest.fixture
def pets(tmp_path) -> Path:
    """A dataset folder with three classes, 8 training and 3 validation images each."""
    for split, count in (("train", 8), ("val", 3)):
        write_images(tmp_path / "pets" / split, {"cat": count, "dog": count, "eel": count}, seed=len(split))
    return tmp_path / "pets"
