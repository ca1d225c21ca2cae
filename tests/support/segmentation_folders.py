"""Tiny datasets of images and label maps."""

from pathlib import Path

import numpy as np
from PIL import Image

ADE20K = ("images/training", "annotations/training"), ("images/validation", "annotations/validation")


def write_folder(images: Path, labels: Path, label_maps, ending="png") -> None:
    """Write label maps, arrays (H, W), as a.png, b.png, ..., and a noise image for each."""
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
    """Write ``images/<split>``, ``labels/<split>`` and, unless None, ``classes.txt``; return the folder."""
    write_folder(root / "images" / split, root / "labels" / split, label_maps, **words)
    if classes is not None:
        (root / "classes.txt").write_text(classes)
    return root


def write_ade20k(root: Path, label_maps=([[0, 1], [150, 255]],)) -> Path:
    """Write both splits in the ADE20K layout with the given label maps and return the folder."""
    for images, labels in ADE20K:
        write_folder(root / images, root / labels, label_maps, ending="jpg")
    return root


def write_regions(root: Path, train=6, val=2, size=(70, 84)) -> Path:
    """Write both splits of a custom dataset of noise images labelled sky, tree and car; return the folder."""
    for split, count in (("train", train), ("val", val)):
        label_maps = np.zeros((count, *size), dtype=np.uint8)
        for number, labels in enumerate(label_maps):
            labels[20 + 5 * number :] = 1
            labels[50:60, 10 + number : 40] = 2
            labels[:3] = 255
        write_split(root, split, label_maps)
    return root
