"""Base class of labelled images, and folders of classes in torchvision's layout, ``DIR/<split>/<class>/*``."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from foveal.errors import FovealError
from foveal.tasks.image_files import load_rgb

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Images(Dataset, ABC):
    """Labelled images; item i is ``(transform(image), class index)``.

    Attributes:
        classes: class names, indexed by class.
        names: human-readable name of each image: a file, ``shard.tar/member``, ``dataset[17]``.
        targets: class index of each image; empty if it is only known once the image is read (remote shards).
        transform: function from a PIL image in RGB to the network's input; None returns the image itself.
    """

    def __init__(
        self, classes: list[str], names: list[str], targets: list[int], transform: Callable | None = None
    ) -> None:
        self.classes, self.names, self.targets, self.transform = classes, names, targets, transform
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
        """Reorder the classes as in ``classes``, which has the same names, and update all targets."""
        if classes == self.classes:
            return
        place = {name: number for number, name in enumerate(classes)}
        moved = [place[name] for name in self.classes]
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
        return load_rgb(self.names[index])


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
    """Open the images of ``folder/<class>/*``, with classes in alphabetical order.

    Raises:
        FovealError: there are no class folders, or one of them has no image.
    """
    check_class_folders(folder)
    found = ImageFolder(str(folder), allow_empty=True)
    counts = Counter(found.targets)
    empty = [name for index, name in enumerate(found.classes) if not counts[index]]
    if empty:
        raise FovealError(f"The class folder {folder / empty[0]} has no image: put images into it or remove it.")
    return FileImages(found.classes, [path for path, _ in found.samples], found.targets, transform)


def check_class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in alphabetical order. Raises FovealError if there are none."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not names:
        raise FovealError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/.")
    return names


def has_class_folders(folder: Path) -> bool:
    """Return whether the folder has subfolders."""
    return any(entry.is_dir() for entry in folder.iterdir())


def existing_split(root: Path, split: str) -> Path:
    """Return the folder ``root/split``. Raises FovealError if there is none."""
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder that contains train/ and val/.")
    folder = root / split
    if not has_class_folders(root) and any(root.glob("*.tar")):
        raise FovealError(
            f"{root} has tar shards, but none is named after a split: name them train-000.tar, val-000.tar and so on."
        )
    if not folder.is_dir():
        raise FovealError(f"{root} has no folder {split}/: put the images into {folder}/<class>/.")
    return folder
