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


COLOURS = {0: (0, 0, 0), 1: (250, 50, 83), 2: (51, 221, 255), 255: (224, 224, 192)}


def write_cvat(root: Path, numbers, palette=False) -> Path:
    """Write images a, b and c with equal label maps of background, cat and dog as CVAT exports segmentation masks, with
    b for validation; with ``palette`` as in Pascal VOC."""
    maps = root / "SegmentationClass"
    write_folder(root / "JPEGImages", maps, [numbers] * 3, ending="jpg")
    for file in maps.iterdir():
        stored = np.asarray(Image.open(file))
        if palette:
            picture = Image.fromarray(stored, "P")
            picture.putpalette([channel for number in range(256) for channel in COLOURS.get(number, (1, 1, 1))])
        else:
            picture = Image.fromarray(
                np.array([[COLOURS[number] for number in row] for row in stored.tolist()], np.uint8)
            )
        picture.save(file)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nc\n")
    (lists / "val.txt").write_text("b\n")
    names = ("background", "cat", "dog")
    lines = [f"{name}:{','.join(map(str, COLOURS[number]))}::" for number, name in enumerate(names)]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines, ""]))
    return root


def write_roboflow(root: Path, numbers, rows="0, background\n1, cat\n2, dog\n", count=2) -> Path:
    """Write images with equal label maps as Roboflow exports semantic masks: train and valid, masks beside images."""
    for split in ("train", "valid"):
        folder = root / split
        write_folder(folder, root / "masks", [numbers] * count, ending="jpg")
        for file in sorted((root / "masks").iterdir()):
            (folder / f"{file.stem}.jpg").rename(folder / f"{file.stem}_jpg.rf.0.jpg")
            file.rename(folder / f"{file.stem}_jpg.rf.0_mask.png")
        (folder / "_classes.csv").write_text(f"Pixel Value, Class\n{rows}")
    (root / "masks").rmdir()
    return root
