"""Where the annotations and the images of a split are: in COCO's own layout, or as tools for annotation export it."""

import os
from dataclasses import replace
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.detection.data.coco_file import Split
from foveal.tasks.detection.data.yolo_layout import find_yolo, is_settings, missing_yolo
from foveal.tasks.listing import few, find_entry, is_hidden, split_names

YEARS = ("2017", "")  # in names of files and folders; the first that exists is used
ANNOTATIONS, IMAGES = "annotations", "images"
ROBOFLOW = ("_annotations.coco.json", "_annotations.coco-segmentation.json")
# The file of an export without a split: Roboflow's, Label Studio's, CVAT's (Datumaro's), plain names, FiftyOne's.
EXPORTS = (
    *ROBOFLOW,
    "result.json",
    "annotations/instances_default.json",
    "instances.json",
    "annotations.json",
    "labels.json",
)
FIFTYONE_IMAGES, CVAT_IMAGES = "data", "images/default"


def find_split(folder: Path, split: str, advice: str = "") -> Split:
    """Find the annotations and the images of one split.

    These are ``annotations/instances_<split>2017.json`` with ``<split>2017/``, or both without the year; or a folder
    ``<split>`` that is an export; or YOLO's labels. "val" may be called "valid" or "validation".

    Args:
        advice: end of the sentence about a split that is missing where others are there.

    Raises:
        FovealError: one of them is missing.
    """
    found = search_split(folder, split)
    if found is not None:
        return found
    missing = missing_yolo(folder, split)
    root = folder.parent if folder.is_file() else folder
    if missing is None:
        files = [root / ANNOTATIONS / f"instances_{split}{year}.json" for year in YEARS]
        missing = f"{folder} has no annotations for {split}: put them into {files[0]} or {files[1]}"
    if search_split(folder, "train") is not None or search_whole(folder) is not None:
        missing += advice
    there = sorted(name for name in os.listdir(root) if not is_hidden(name))
    raise FovealError(f"{missing}; it has {few(there)}." if there else f"{missing}.")


def search_split(folder: Path, split: str) -> Split | None:
    """Return a split, or None if there is none of this name. See ``find_split``.

    Raises:
        FovealError: there is no such folder, or the annotations have no images.
    """
    if is_settings(folder):
        return find_yolo(folder, split)
    if folder.is_file():
        raise FovealError(f"{folder} is a file: pass the folder of the data set as --data, or YOLO's data.yaml.")
    if not folder.is_dir():
        raise FovealError(f"There is no folder {folder}: pass --data with a folder in COCO's layout.")
    for name in split_names(split):
        for year in YEARS:
            file = find_entry(folder, ANNOTATIONS, f"instances_{name}{year}.json")
            if file.is_file():
                called = file.stem.partition("_")[2].removesuffix(year)
                return Split(file, *_images(folder, f"{name}{year}", file), name=called)
    found = find_yolo(folder, split)
    if found is not None:
        return found
    for name in split_names(split):
        place = find_entry(folder, name)
        whole = search_whole(place)
        if whole is not None:
            return replace(whole, name=place.name)
        for file in (find_entry(folder, ANNOTATIONS, f"{name}.json"), find_entry(folder, f"{name}.json")):
            if file.is_file():
                return Split(file, *_images(folder, name, file), name=file.stem)
    return None


def search_whole(folder: Path) -> Split | None:
    """Return an export without a split, None if ``folder`` is none. Its images are in ``images`` or beside the file."""
    file = next((file for name in EXPORTS if (file := folder / name).is_file()), None)
    if file is not None:
        images, *others = [
            place for name in (IMAGES, FIFTYONE_IMAGES, "", CVAT_IMAGES) if (place := folder / name).is_dir()
        ]
        return Split(file, images, tuple(others))
    return find_yolo(folder, None) if folder.is_dir() or is_settings(folder) else None


def _images(folder: Path, name: str, file: Path) -> tuple[Path, tuple[Path, ...], bool]:
    """Return the folder of a split's images, other folders that names may be relative to, and whether it is shared."""
    places = [find_entry(folder, name), find_entry(folder, IMAGES, name)]
    own = next((place for place in places if place.is_dir()), None)
    shared = find_entry(folder, IMAGES)
    if own is None and not shared.is_dir():
        raise FovealError(f"{file} needs its images in {places[0]}, and there is no such folder: put them there.")
    if own is None:
        return shared, (folder,), True
    return own, (folder, *([shared] if shared.is_dir() else [])), False
