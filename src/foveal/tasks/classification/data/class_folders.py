"""Folders of classes in torchvision's layout, ``DIR/<split>/<class>/*``, and which folders are splits or classes."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.classification.data.images import FileImages, Images
from foveal.tasks.listing import (
    SPLIT_NAMES,
    Listing,
    counts_of,
    few,
    is_image,
    left_out,
    list_images,
    split_folders,
    split_names,
    subfolders,
    walk_images,
)

# In lower case. Folders of these names are no classes unless images lie in them, beside class folders of other names.
_SPLITS = {*SPLIT_NAMES["train"], *SPLIT_NAMES["val"], "test", "testing", "dev", "eval"}
_OTHER_TASKS = {"images", "masks", "labels", "annotations", "jpegimages", "segmentationclass", "segmentationobject"}


class ClassFolders:
    """``root/<split>/<class>/*``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, split: str) -> str:
        return str(split_folder(self.root, split))

    def set_name(self, split: str) -> str:
        return split_folder(self.root, split).name

    def check(self, split: str) -> None:
        existing_split(self.root, split)

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        folder = existing_split(self.root, split)
        images = open_class_folders(folder, complete=split == "train")
        images.notices += [
            f"{folder} is read, and {other.name}/ beside it is not: they are names of the same split."
            for other in split_folders(self.root, split)
            if other != folder
        ]
        return images


def open_class_folders(
    folder: Path, transform: Callable | None = None, *, classes: Sequence[str] | None = None, complete: bool = False
) -> FileImages:
    """Open the images of ``folder/<class>/*``, also in subfolders, with classes in alphabetical order.

    Args:
        classes: names of the class folders, in alphabetical order; None for all folders.
        complete: whether every class must have an image.

    Raises:
        FovealError: there are no class folders, or no images in them, or in one of them if they must be complete.
    """
    classes = check_class_folders(folder) if classes is None else list(classes)
    names: list[str] = []
    targets: list[int] = []
    beside = list_images(folder)
    others = Counter(beside.others)
    for label, name in enumerate(classes):
        found = walk_images(folder / name)
        if complete and not found.paths:
            raise FovealError(
                f"The class folder {folder / name} has no image{_in_brackets(found.others)}: put images into it, or "
                "remove this class here and in the validation."
            )
        names += found.paths
        targets += [label] * len(found.paths)
        others += found.others
    if not names:
        raise FovealError(f"{folder} has no image in its class folders{_in_brackets(others)}: put images into them.")
    images = FileImages(classes, names, targets, transform)
    images.notices = [*_outside(beside, folder), *left_out(others, folder)]
    return images


def _in_brackets(others: Counter[str]) -> str:
    return f" ({counts_of(others)})" if others else ""


def _outside(beside: Listing, folder: Path) -> list[str]:
    """Return a sentence about images that are in no class folder, or nothing if there are none."""
    count = len(beside.paths)
    if not count:
        return []
    return [f"{folder} has {count} image{'s' * (count > 1)} outside of its class folders, left out."]


def check_class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in alphabetical order.

    Raises:
        FovealError: there are none, or all are named as splits or as the folders of other tasks.
    """
    names = subfolders(folder)
    advice = f"put the images of each class into {folder}/<class>/"
    if not names:
        raise FovealError(f"{folder} has no class folders: {advice}.")
    if all(_is_reserved(name) for name in names):
        above = next((name for name in names if has_class_folders(folder / name)), None)
        if any(name.casefold() in _OTHER_TASKS - {"images"} for name in names):
            advice += ", or choose a recipe for detection or segmentation"
        elif above is not None:
            advice += f", or pass --data {folder / above} if its folders are the classes"
        found = few([f"{name}/" for name in names])
        raise FovealError(f"{folder} has no class folders, only {found}: {advice}.")
    return names


def _is_reserved(name: str) -> bool:
    """Return whether a folder is named as a split, maybe with a year as in COCO's ``train2017``, or for other tasks."""
    return name.casefold().rstrip("0123456789") in _SPLITS | _OTHER_TASKS


def is_split_name(name: str) -> bool:
    """Return whether a folder of this name is that of a split, unless it is a class."""
    return name.casefold() in _SPLITS


def has_class_folders(folder: Path) -> bool:
    """Return whether the folder has subfolders."""
    return bool(subfolders(folder))


def has_images(folder: Path) -> bool:
    """Return whether there is an image in the folder itself."""
    with os.scandir(folder) as entries:
        return any(is_image(entry.name) for entry in entries)


def find_split_folder(root: Path, split: str) -> Path | None:
    """Return the folder of a split in ``root``, by any of its names, or None if there is none.

    One that has class folders comes first. One that only has images, beside class folders of other names, is a class.
    """
    folders = split_folders(root, split)
    divided = next((folder for folder in folders if has_class_folders(folder)), None)
    if divided is not None or not folders:
        return divided
    return None if has_images(folders[0]) and _has_classes(root) else folders[0]


def _has_classes(root: Path) -> bool:
    """Return whether class folders are in ``root`` itself, and none are in a folder of a split."""
    names = subfolders(root)
    if any(is_split_name(name) and has_class_folders(root / name) for name in names):
        return False
    return any(has_images(root / name) for name in names if not _is_reserved(name))


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split in ``root``, or where it would be under its usual name."""
    return find_split_folder(root, split) or root / split_names(split)[0]


def existing_split(root: Path, split: str) -> Path:
    """Return the folder of a split in ``root``, by any of its names. Raises FovealError if there is none."""
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder that contains train/ and val/.")
    if not has_class_folders(root) and any(root.glob("*.tar")):
        raise FovealError(
            f"{root} has tar shards, but none is named after a split: name them train-000.tar, val-000.tar and so on."
        )
    folder = find_split_folder(root, split)
    if folder is None:
        wanted = root / split_names(split)[0]
        raise FovealError(f"{root} has no folder {wanted.name}/: put the images into {wanted}/<class>/.")
    return folder
