"""Base class of labelled images, and folders of classes in torchvision's layout, ``DIR/<split>/<class>/*``."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.tasks.held_out import HeldOut
from foveal.tasks.image_files import load_rgb
from foveal.tasks.listing import Listing, counts_of, left_out, list_images, split_names, subfolders, walk_images

IMAGENET_CLASSES = 1000


class Images(Dataset, ABC):
    """Labelled images; item i is ``(transform(image), class index)``.

    Attributes:
        classes: class names, indexed by class.
        names: human-readable name of each image: a file, ``shard.tar/member``, ``dataset[17]``.
        targets: class index of each image; empty if it is only known once the image is read (remote shards).
        transform: function from a PIL image in RGB to the network's input; None returns the image itself.
        upright: whether images are turned as their EXIF orientation says. Those of ImageNet are not: its published
            accuracies are of the images as stored.
        notices: sentences about what was found beside the images and left out.
        held_out: how these images were drawn for validation, if they were.
    """

    def __init__(
        self, classes: list[str], names: list[str], targets: list[int], transform: Callable | None = None
    ) -> None:
        self.classes, self.names, self.targets, self.transform = classes, names, targets, transform
        self.upright = not is_imagenet_classes(classes)
        self.notices: list[str] = []
        self.held_out: HeldOut | None = None
        self._places: list[int] | None = None  # new index of each class of the source; None if unchanged

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transformed(self.load(index)), self.targets[index]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Pairs of (name, class index)."""
        return list(zip(self.names, self.targets, strict=True))

    def sort_classes(self, classes: list[str]) -> None:
        """Number the classes as in ``classes``, and update all targets. Names that it lacks must have no image."""
        if classes == self.classes:
            return
        place = {name: number for number, name in enumerate(classes)}
        moved = [place.get(name, -1) for name in self.classes]
        self._places = moved if self._places is None else [moved[old] for old in self._places]
        self.classes, self.targets = list(classes), [moved[target] for target in self.targets]

    def class_of(self, label: int) -> int:
        """Return the class index of a label as stored in the source."""
        return label if self._places is None else self._places[label]

    def transformed(self, image: Image.Image) -> Any:
        """Apply the transform."""
        return image if self.transform is None else self.transform(image)

    @abstractmethod
    def load(self, index: int) -> Image.Image:
        """Return image ``index`` in RGB. Raises BrokenSample if it cannot be read."""


class FileImages(Images):
    """Images in separate files; their names are the paths."""

    def load(self, index: int) -> Image.Image:
        return load_rgb(self.names[index], self.upright)


def is_imagenet_classes(classes: list[str]) -> bool:
    """Return whether classes are named as those of ImageNet or a part of it: by WNIDs, by its 1000 numbers (as in
    ImageNetV2), or by its 1000 names, the first of which is the tench."""
    if all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return bool(classes)
    if len(classes) != IMAGENET_CLASSES:
        return False
    return classes[0].startswith("tench") or set(classes) == {str(number) for number in range(IMAGENET_CLASSES)}


class ClassFolders:
    """``root/<split>/<class>/*``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, split: str) -> str:
        return str(split_folder(self.root, split))

    def check(self, split: str) -> None:
        existing_split(self.root, split)

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        folder = existing_split(self.root, split)
        images = open_class_folders(folder, complete=split == "train")
        images.notices += [
            f"{folder} is read, and {other}/ beside it is not: they are names of the same split."
            for other in split_names(split)
            if other != folder.name and (self.root / other).is_dir()
        ]
        return images


def open_class_folders(folder: Path, transform: Callable | None = None, *, complete: bool = False) -> FileImages:
    """Open the images of ``folder/<class>/*``, also in subfolders, with classes in alphabetical order.

    Args:
        complete: whether every class must have an image.

    Raises:
        FovealError: there are no class folders, or no images in them, or in one of them if they must be complete.
    """
    classes = check_class_folders(folder)
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
    """Return the names of the class folders in alphabetical order. Raises FovealError if there are none."""
    names = subfolders(folder)
    if not names:
        raise FovealError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/.")
    return names


def has_class_folders(folder: Path) -> bool:
    """Return whether the folder has subfolders."""
    return bool(subfolders(folder))


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split in ``root``, or where it would be under its usual name."""
    folders = [root / name for name in split_names(split)]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def existing_split(root: Path, split: str) -> Path:
    """Return the folder of a split in ``root``, by any of its names. Raises FovealError if there is none."""
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder that contains train/ and val/.")
    folder = split_folder(root, split)
    if not has_class_folders(root) and any(root.glob("*.tar")):
        raise FovealError(
            f"{root} has tar shards, but none is named after a split: name them train-000.tar, val-000.tar and so on."
        )
    if not folder.is_dir():
        raise FovealError(f"{root} has no folder {folder.name}/: put the images into {folder}/<class>/.")
    return folder
