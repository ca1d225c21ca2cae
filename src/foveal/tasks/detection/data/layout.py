"""COCO's layout: the folders and files of a split, the lists of an annotation file, and its classes."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.image_files import read_text

YEARS = ("2017", "")  # in names of files and folders; the first that exists is used

#: COCO's 80 object classes by category id (Lin et al. 2014, as of 2017).
COCO_CLASSES: dict[int, str] = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """The annotation file and the folder of images of one split."""

    annotations: Path
    images: Path


def find_split(folder: Path, split: str) -> Split:
    """Find ``annotations/instances_<split>2017.json`` and ``<split>2017/`` in ``folder``, or both without the year.

    Raises:
        FovealError: one of them is missing.
    """
    if not folder.is_dir():
        raise FovealError(f"There is no folder {folder}: pass --data with a folder in COCO's layout.")
    files = {year: folder / "annotations" / f"instances_{split}{year}.json" for year in YEARS}
    year = next((year for year, file in files.items() if file.is_file()), None)
    if year is None:
        raise FovealError(f"{folder} has no annotations for {split}: put them into {files['2017']} or {files['']}.")
    images = folder / f"{split}{year}"
    if not images.is_dir():
        raise FovealError(f"{files[year]} needs its images in {images}, and there is no such folder: put them there.")
    return Split(files[year], images)


def read_annotations(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return ``images``, ``annotations`` and ``categories`` of an annotation file, lists of dicts.

    Raises:
        FovealError: the file cannot be read, or has another structure.
    """
    text = read_text(file)
    try:
        with gc_disabled():
            content = json.loads(text)
    except ValueError as error:
        raise FovealError(f"{file} is not JSON ({error}): replace the file.") from error
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise FovealError(f"{file} has no list of {name}: pass a file in COCO's format of instances.")
    return content


def read_categories(content: dict[str, list[dict[str, Any]]], file: Path) -> dict[int, str]:
    """Return category id -> name, by ascending id.

    Raises:
        FovealError: there are none, or an id or a name is missing or not unique.
    """
    categories: dict[int, str] = {}
    for entry in content["categories"]:
        number, name = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(name, str):
            raise FovealError(f"{file} has a category without an id or a name, {entry}: give it both.")
        if number in categories or name in categories.values():
            raise FovealError(f"{file} has the category {number} ({name!r}) twice: remove one.")
        categories[number] = name
    if not categories:
        raise FovealError(f"{file} has no categories: add those of its annotations.")
    return dict(sorted(categories.items()))


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable garbage collection, which would scan the millions of objects being read again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
