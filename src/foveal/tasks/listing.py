"""Which files and folders of a data set count: image formats, names that no person wrote, and names of splits in any
case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile

# Synonyms of the splits' names, in the order in which they are looked for.
SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid")}
MOST_NAMES = 5  # in a sentence

# Of Pillow's formats: videos, and documents that only another program can draw.
_NO_IMAGES = {"MPEG", "EPS"}
_MULTI_PICTURE = ".mpo"  # JPEG with several pictures; Pillow's JPEG reader opens it, under a format that it only writes
# Written by Windows, macOS, and network storage; beside names with a leading dot.
_SYSTEM_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"}


def split_names(split: str) -> tuple[str, ...]:
    """Return the names of a split's folder, the usual one first. They hold in any case; see ``find_entry``."""
    return next((names for names in SPLIT_NAMES.values() if split.casefold() in names), (split,))


def find_entry(folder: Path, *names: str) -> Path:
    """Return ``folder / names[0] / names[1] ...``, each name in any case, such as CVAT's ``Train``.

    A name that is there as given comes first. One that is not there in any case is returned as given.
    """
    for name in names:
        if folder.is_dir() and not (folder / name).exists():
            alike = (found for found in os.listdir(folder) if found.casefold() == name.casefold())
            name = min(alike, default=name)
        folder = folder / name
    return folder


def split_folders(root: Path, split: str) -> list[Path]:
    """Return the folders in ``root`` that have a name of the split, in any case, the usual name first."""
    wanted = [name.casefold() for name in split_names(split)]
    found = [name for name in subfolders(root) if name.casefold() in wanted] if root.is_dir() else []
    order = sorted(found, key=lambda name: (wanted.index(name.casefold()), name != name.casefold(), name))
    return [root / name for name in order]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name does not count: those with a leading dot, and those of systems."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


@cache
def image_endings() -> frozenset[str]:
    """Return the endings of all image formats that the installed Pillow reads, such as ".jpg"; no videos."""
    found = {ending for ending, kind in Image.registered_extensions().items() if _reads(kind)}
    return frozenset({*found, _MULTI_PICTURE})


def _reads(kind: str) -> bool:
    if kind not in Image.OPEN or kind in _NO_IMAGES:
        return False
    factory = Image.OPEN[kind][0]
    # Formats that are recognised, and read by a handler that a program must add.
    return not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image."""
    return not is_hidden(name) and _ending(name) in image_endings()


def _ending(name: str) -> str:
    """Return what follows the last dot, with the dot, in lower case; faster than os.path.splitext."""
    _, dot, end = name.rpartition(".")
    return dot + end.lower() if dot else ""


@dataclass
class Listing:
    """The files of a folder.

    Attributes:
        paths: the image files, in alphabetical order. They are texts, since a Path takes longer than the listing.
        others: how many other files there are, by ending; hidden ones are not counted.
    """

    paths: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> list[Path]:
        """The image files, as paths."""
        return [Path(path) for path in self.paths]

    def add(self, folder: str | Path, names: Iterable[str], endings: frozenset[str]) -> None:
        """Add files of one folder."""
        start = os.path.join(folder, "")
        for name in sorted(names):
            if is_hidden(name):
                continue
            ending = _ending(name)
            if ending in endings:
                self.paths.append(start + name)
            else:
                self.others[ending] += 1


def list_images(folder: Path, endings: frozenset[str] | None = None) -> Listing:
    """List the image files in a folder, not in its subfolders.

    Args:
        folder: an existing folder.
        endings: those of the files to list, in lower case; None for those of images.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    listing = Listing()
    listing.add(folder, names, image_endings() if endings is None else endings)
    return listing


def walk_images(folder: Path, endings: frozenset[str] | None = None) -> Listing:
    """List the image files in a folder and all its subfolders, which may be links; see ``list_images``.

    A folder that can be reached in several ways is listed once, so that a link to a folder above it is harmless.
    """
    listing = Listing()
    folders = []
    visited = set()
    for place, below, names in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in visited:
            below.clear()
            continue
        visited.add((found.st_dev, found.st_ino))
        own = (name for name in below if not is_hidden(name))
        below[:] = sorted(own, key=lambda name: (os.path.islink(os.path.join(place, name)), name))  # links come last
        folders.append((place, names))
    for place, names in sorted(folders):
        listing.add(place, names, image_endings() if endings is None else endings)
    return listing


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, in alphabetical order, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def few(names: Sequence[str]) -> str:
    """Return names for a sentence, as in ``ant, bee, cat, dog, eel and 7 more``."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def left_out(others: Counter[str], place: str | Path) -> list[str]:
    """Return a sentence about the files in ``place`` that are not images, or nothing if there are none."""
    count = sum(others.values())
    if not count:
        return []
    return [f"{place} has {count} {_files(count)} that Pillow does not read as images, left out: {counts_of(others)}."]


def counts_of(others: Counter[str]) -> str:
    """Return endings and how many files have them, as in ``12 .heic, 1 without an ending``."""
    return ", ".join(f"{number} {ending or 'without an ending'}" for ending, number in others.most_common())


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
