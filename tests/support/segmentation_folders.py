"""Tiny data sets of images and label maps."""

from pathlib import Path

import numpy as np
from PIL import Image

ADE20K = ("images/training", "annotations/training"), ("images/validation", "annotations/validation")


def write_folder(images: Path, labels: Path, label_maps, ending="png") -> None:
    """Label maps, arrays (H, W), as a.png, b.png and so on, and an image of noise for each."""
    draw = np.random.default_rng(0)
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in zip("abcdefghijkl", label_maps, strict=False):
        pixels = draw.integers(0, 255, (*np.shape(numbers), 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{name}.{ending}")
        Image.fromarray(np.asarray(numbers, dtype=np.uint8)).save(labels / f"{name}.png")


def write_split(
    root: Path, split="train", label_maps=([[0, 1], [2, 255]],), classes="sky\ntree\ncar\n", **words
) -> Path:
    """One's own split: ``images/<split>``, ``labels/<split>``, ``classes.txt`` unless None; returns the folder."""
    write_folder(root / "images" / split, root / "labels" / split, label_maps, **words)
    if classes is not None:
        (root / "classes.txt").write_text(classes)
    return root


def write_ade20k(root: Path, label_maps=([[0, 1], [150, 255]],)) -> Path:
    """Both splits in ADE20K's layout, with these label maps each; returns the folder."""
    for images, labels in ADE20K:
        write_folder(root / images, root / labels, label_maps, ending="jpg")
    return root
