"""Shapes as files in COCO's layout, with label maps and the names of their classes beside them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.cache import cache_folder, filled_whole
from foveal.tasks.dense.shapes.outlines import CLASSES
from foveal.tasks.dense.shapes.photographs import photographs
from foveal.tasks.dense.shapes.scene import Scene, random_scene
from foveal.tasks.dense.shapes.segmentation import segmentation

TRAIN, VAL = 1200, 200  # images, where nothing else is said
FEWEST_PIXELS = 32  # of a side: in smaller images objects have no pixels, and classes no outlines
QUALITY = 92


def shapes_folder(*, seed: int = 0, train: int = TRAIN, val: int = VAL, side: int = 128) -> Path:
    """The folder of these shapes in the user's cache (``$FOVEAL_CACHE``), written if it is not there yet.

    Its name tells sets of other arguments, or of another version of the drawing, from this one.

    Raises:
        FovealError: as ``write_shapes``.
    """
    digest = hashlib.blake2b(repr((seed, train, val, side)).encode(), digest_size=6)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return write_shapes(cache_folder() / f"shapes-{digest.hexdigest()}", seed=seed, train=train, val=val, side=side)


def write_shapes(folder: str | Path, *, seed: int = 0, train: int = TRAIN, val: int = VAL, side: int = 128) -> Path:
    """Draw textured shapes on photographs, write them as a data set in COCO's layout, and return ``folder``.

    - ``train/*.jpg`` and ``val/*.jpg``: a third each of (side, side), (side, 5/4 side) and (5/4 side, side) pixels;
    - ``annotations/instances_train.json`` and ``instances_val.json``: category 1 is ``CLASSES[0]``; boxes, areas and
      segmentations (polygons, runs where there are holes) are exactly the part of an object that is seen;
    - ``labels/train/*.png`` and ``labels/val/*.png``: 0 for the background, else the category's id;
    - ``classes.txt``: what these numbers are called, a line each, from 0 on.

    The same arguments give the same files, and an image is the same however many there are. The folder appears whole
    or not at all; one that exists is left as it is.

    Args:
        seed: another one gives other images of the same kind.
        train, val: how many images; their backgrounds are different photographs.
        side: short side of the images in pixels, at least 32.

    Raises:
        FovealError: scikit-image is missing, the folder cannot be written or holds something else, or a number is too
            small.
    """
    if side < FEWEST_PIXELS or min(seed, train, val) < 0:
        raise FovealError(
            f"Shapes need a side of at least {FEWEST_PIXELS} pixels, and no number of theirs is negative."
        )
    folder, counts = Path(folder), {"train": train, "val": val}
    if folder.exists():
        _check_complete(folder, counts)
        return folder
    for split in counts:
        photographs(split)
    try:
        with filled_whole(folder) as part:
            for split, count in counts.items():
                _write_split(part, split, count, seed, side)
            (part / "classes.txt").write_text("\n".join(("background", *CLASSES, "")))
    except OSError as error:
        raise FovealError(
            f"The shapes could not be written to {folder} ({error.strerror}): make room, or choose another folder."
        ) from error
    return folder


def _check_complete(folder: Path, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        found = sum(1 for _ in folder.glob(f"{split}/*.jpg"))
        if found != count or not _annotation_file(folder, split).is_file():
            raise FovealError(
                f"{folder} holds {found} of the {count} images of shapes to {split} on: remove it, or choose another "
                "folder."
            )


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _write_split(folder: Path, split: str, count: int, seed: int, side: int) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place in (folder / split, folder / "labels" / split, folder / "annotations"):
        place.mkdir(parents=True, exist_ok=True)
    long = side * 5 // 4
    for number in range(1, count + 1):
        draw = np.random.default_rng([seed, split == "val", number])
        height, width = ((side, side), (side, long), (long, side))[number % 3]
        scene = random_scene(draw, split, height, width)
        name = f"{number:06d}"
        Image.fromarray(scene.image).save(folder / split / f"{name}.jpg", quality=QUALITY, subsampling=0)
        Image.fromarray(scene.classes).save(folder / "labels" / split / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        annotations += _annotations(scene, number, first_id=len(annotations) + 1)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _annotation_file(folder, split).write_text(json.dumps(content, separators=(",", ":")))


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    found = []
    for number, (label, mask) in enumerate(zip(scene.labels, scene.masks(), strict=True)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        found.append(
            {
                "id": first_id + number,
                "image_id": image_id,
                "category_id": 1 + label,
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": segmentation(mask),
            }
        )
    return found
