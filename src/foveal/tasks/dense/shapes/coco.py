"""Shapes written as a dataset in COCO's format, with label maps for segmentation."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.files import atomic_folder, cache_folder
from foveal.tasks.dense.shapes.scenes import CLASSES, Scene, random_scene
from foveal.tasks.dense.shapes.textures import photographs

Point = tuple[int, int]


def segmentation(mask: np.ndarray) -> Any:
    """Return COCO's ``segmentation`` of a mask (H, W) bool: a list of polygons [x1, y1, x2, y2, ...], one per part.

    Polygons follow the edges of pixels, so they are exact. They cannot represent holes: a mask with one becomes an
    uncompressed run-length encoding.
    """
    loops = outlines(mask)
    if any(_signed_area(loop) < 0 for loop in loops):
        return runs(mask)
    return [[coordinate for point in loop for coordinate in point] for loop in loops]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Return the uncompressed run-length encoding: alternating runs of 0 and 1, column by column, starting with 0."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels, prepend=False))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=len(pixels)).tolist()}


def outlines(mask: np.ndarray) -> list[list[Point]]:
    """Return the corners (x, y) of all closed contours of the mask, clockwise around its parts.

    Pixels that only touch at a corner are separate. The contour of a hole is counterclockwise.
    """
    steps = _edges(mask)
    loops = []
    while steps:
        loops.append(_follow(next(iter(steps)), steps))
    return loops


def _follow(start: Point, steps: dict[Point, list[Point]]) -> list[Point]:
    """Return the corners of the contour that begins at ``start``, and remove its steps from ``steps``."""
    first = step = steps[start][0]
    corners, at = [start], start
    while True:
        steps[at].remove(step)
        if not steps[at]:
            del steps[at]
        at = (at[0] + step[0], at[1] + step[1])
        ahead, right = steps.get(at, []), (-step[1], step[0])
        if right not in ahead and at == start:
            return corners if step != first else corners[1:]
        turn = right if right in ahead else ahead[0]  # if pixels touch at a corner, stay at the same pixel
        if turn != step:
            corners.append(at)
        step = turn


def _edges(mask: np.ndarray) -> dict[Point, list[Point]]:
    """Return the steps from each pixel corner along edges with the inside on their right."""
    inside = np.pad(mask, 1)
    here = inside[1:-1, 1:-1]
    sides = (  # neighbour beyond the edge, start of the edge, direction of the edge
        (inside[:-2, 1:-1], (0, 0), (1, 0)),
        (inside[1:-1, 2:], (1, 0), (0, 1)),
        (inside[2:, 1:-1], (1, 1), (-1, 0)),
        (inside[1:-1, :-2], (0, 1), (0, -1)),
    )
    steps: dict[Point, list[Point]] = {}
    for beyond, (dx, dy), direction in sides:
        for y, x in np.argwhere(here & ~beyond).tolist():
            steps.setdefault((x + dx, y + dy), []).append(direction)
    return steps


def _signed_area(loop: list[Point]) -> float:
    x, y = np.array(loop, dtype=float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


TRAIN, VAL = 1200, 200  # default numbers of images
FEWEST_PIXELS = 32  # smallest side: in smaller images, objects vanish and classes look the same
QUALITY = 92  # of JPEG


def shapes_folder(*, seed: int = 0, train: int = TRAIN, val: int = VAL, side: int = 128) -> Path:
    """Return a folder of shapes in the user's cache (``$FOVEAL_CACHE``), generated if it does not exist.

    Its name depends on the arguments and on the version of this code. Arguments and errors are those of
    ``write_shapes``.
    """
    digest = hashlib.blake2b(repr((seed, train, val, side)).encode(), digest_size=6)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return write_shapes(cache_folder() / f"shapes-{digest.hexdigest()}", seed=seed, train=train, val=val, side=side)


def write_shapes(folder: str | Path, *, seed: int = 0, train: int = TRAIN, val: int = VAL, side: int = 128) -> Path:
    """Generate textured shapes on photographs as a dataset in COCO's layout, and return ``folder``.

    - ``train/*.jpg`` and ``val/*.jpg``: a third each of (side, side), (side, 5/4 side) and (5/4 side, side) pixels;
    - ``annotations/instances_train.json`` and ``instances_val.json``: category 1 is ``CLASSES[0]``; boxes, areas and
      segmentations (polygons, or runs if there are holes) describe exactly the visible part of an object;
    - ``labels/train/*.png`` and ``labels/val/*.png``: 0 for the background, otherwise the category's id;
    - ``classes.txt``: names of these numbers from 0, one per line.

    The same arguments give the same files, and an image does not depend on the number of images. The folder is written
    atomically; an existing one is left unchanged.

    Args:
        folder: created unless it exists.
        seed: seed of the images.
        train, val: numbers of images; the splits have different photographs as backgrounds.
        side: short side of the images in pixels, at least 32.

    Raises:
        FovealError: scikit-image is missing, the folder cannot be written or has other content, or a number is too
            small.
    """
    if side < FEWEST_PIXELS or min(seed, train, val) < 0:
        raise FovealError(
            f"Shapes need a side of at least {FEWEST_PIXELS} pixels, and non-negative numbers of images and seeds."
        )
    folder, counts = Path(folder), {"train": train, "val": val}
    if folder.exists():
        _check_complete(folder, counts)
        return folder
    for split in counts:
        photographs(split)
    with atomic_folder(folder, "make room, or choose another folder") as part:
        for split, count in counts.items():
            _write_split(part, split, count, seed, side)
        (part / "classes.txt").write_text("\n".join(("background", *CLASSES, "")))
    return folder


def _check_complete(folder: Path, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        found = sum(1 for _ in folder.glob(f"{split}/*.jpg"))
        if found != count or not _annotation_file(folder, split).is_file():
            raise FovealError(
                f"{folder} has {found} of the {count} images of shapes for {split}: remove it, or choose another "
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
        rng = np.random.default_rng([seed, split == "val", number])
        height, width = ((side, side), (side, long), (long, side))[number % 3]
        scene = random_scene(rng, split, height, width)
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
