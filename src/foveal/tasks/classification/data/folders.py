"""Folders of classes: torchvision's layout, ``DIR/train/<class>/*`` and ``DIR/val/<class>/*``."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets import ImageFolder

from foveal.errors import FovealError
from foveal.tasks.classification.data.images import FileImages, Images


class ClassFolders:
    """``root/<split>/<class>/*``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, split: str) -> str:
        return str(self.root / split)

    def check(self, split: str) -> None:
        existing_split(self.root, split)

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        return open_class_folders(existing_split(self.root, split))


def open_class_folders(folder: Path, transform: Callable | None = None) -> FileImages:
    """The images of ``folder/<class>/*``, classes in alphabetical order.

    Raises:
        FovealError: the folder holds no classes, or one of them holds no image.
    """
    check_class_folders(folder)
    found = ImageFolder(str(folder), allow_empty=True)
    counts = Counter(found.targets)
    empty = [name for index, name in enumerate(found.classes) if not counts[index]]
    if empty:
        raise FovealError(f"The class folder {folder / empty[0]} holds no image: put images into it or remove it.")
    return FileImages(found.classes, [path for path, _ in found.samples], found.targets, transform)


def check_class_folders(folder: Path) -> list[str]:
    """The names of the class folders in alphabetical order. Raises FovealError where there is none."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise FovealError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/.")
    return names


def has_class_folders(folder: Path) -> bool:
    """Whether there is a folder in the folder."""
    return any(entry.is_dir() for entry in folder.iterdir())


def existing_split(root: Path, split: str) -> Path:
    """The folder ``root/split``. Raises FovealError where there is none."""
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder that holds train/ and val/.")
    folder = root / split
    if not has_class_folders(root) and any(root.glob("*.tar")):
        raise FovealError(
            f"{root} has tar shards, and none is named after a split: name them train-000.tar, val-000.tar and so on."
        )
    if not folder.is_dir():
        raise FovealError(f"{root} has no folder {split}/: lay the images out as {folder}/<class>/<image>.")
    return folder
