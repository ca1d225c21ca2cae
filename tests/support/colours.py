"""Small images of three classes that a tiny network learns in a second: mostly blue, green or red."""

from pathlib import Path

import numpy as np
from PIL import Image

TINY = ["--model", "test_convnext", "--epochs", "4", "--batch-size", "8", "--lr", "5e-3", "--workers", "0"]


def write_colours(folder: Path) -> Path:
    """Write 8 training and 4 validation images of each class, and return the folder."""
    for split, per_class in (("train", 8), ("val", 4)):
        draw = np.random.default_rng(per_class)
        for label, name in enumerate(("blue", "green", "red")):
            (folder / split / name).mkdir(parents=True)
            for number in range(per_class):
                pixels = draw.integers(0, 120, (20, 30, 3))
                pixels[..., 2 - label] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder
