"""Tiny hand-written datasets in the COCO layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def annotation(number=1, image=1, box=(2, 3, 4, 5), category=3, **others):
    """An annotation whose segmentation is its box."""
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        **others,
    }


def write_split(folder: Path, split="train", annotations=(), sizes=((20, 30),), year="", categories=CATEGORIES) -> Path:
    """Write noise images 1.png, 2.png, ... with the given (height, width) and return the folder."""
    draw = np.random.default_rng(0)
    images = []
    (folder / f"{split}{year}").mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for number, (height, width) in enumerate(sizes, 1):
        pixels = draw.integers(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{split}{year}" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    content = {"images": images, "annotations": list(annotations), "categories": list(categories)}
    (folder / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(content))
    return folder


def change(folder: Path, split, edit) -> None:
    """Apply ``edit`` to the content of an annotation file."""
    file = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def write_objects(folder: Path) -> Path:
    """Six training images of three sizes with one or two objects each, and three validation images."""
    boxes = [(4, 5, 30, 28), (20, 16, 36, 40), (2, 2, 50, 20), (10, 30, 20, 24), (30, 8, 24, 44), (6, 6, 40, 40)]
    objects = [annotation(n, image=n, box=box, category=(3, 7)[n % 2]) for n, box in enumerate(boxes, 1)]
    more = [annotation(n + 6, image=n, box=box) for n, box in enumerate(boxes[1:3], 1)]
    sizes = ((64, 80), (80, 64), (64, 64))
    write_split(folder, "train", [*objects, *more], 2 * sizes)
    return write_split(folder, "val", [*objects[:3], *more], sizes)
