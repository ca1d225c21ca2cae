"""Class folders without a validation split: ``root/<class>/*`` or ``root/train/<class>/*``, some held out."""

from __future__ import annotations

import os
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.classification.data.images import (
    ClassFolders,
    FileImages,
    Images,
    has_class_folders,
    open_class_folders,
    split_folder,
)
from foveal.tasks.held_out import HeldOut, draw
from foveal.tasks.listing import split_names


def is_unsplit(root: Path) -> bool:
    """Return whether ``root`` has class folders, or a folder of them for training, and none for validation."""
    return root.is_dir() and not split_folder(root, "val").is_dir() and has_class_folders(root)


class UnsplitFolder:
    """A folder recognised by ``is_unsplit``: its validation images are those held out, all others are for training."""

    def __init__(self, root: Path, held_out: HeldOut, images: FileImages | None = None) -> None:
        self.root, self.held_out = root, held_out
        self._images = images  # all of them, if they have been listed

    @classmethod
    def draw(cls, root: Path, fraction: float, seed: int) -> UnsplitFolder:
        """Hold out a fraction of each class.

        Raises:
            FovealError: the folder has validation images already, or none can be drawn.
        """
        val = split_folder(root, "val")
        if val.is_dir():
            raise FovealError(f"{root} has validation images in {val.name}/: leave --val-fraction out.")
        folder = _folder(root)
        images = open_class_folders(folder, complete=True)
        return cls(root, draw(_names(images, folder), images.targets, fraction, seed), images)

    def place(self, split: str) -> str:
        """Return the location of the split, for error messages."""
        if split in split_names("val"):
            return f"{_folder(self.root)} (held out)"
        return str(_folder(self.root)) if split in split_names("train") else ClassFolders(self.root).place(split)

    def check(self, split: str) -> None:
        """Both splits exist."""

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """Open the images held out as "val", and all others as "train".

        Raises:
            FovealError: an image that was held out is missing.
        """
        validates = split in split_names("val")
        if not validates and split not in split_names("train"):
            return ClassFolders(self.root).open(split, classes)
        folder = _folder(self.root)
        whole = self._images or open_class_folders(folder, complete=True)
        held, names = set(self.held_out.names), _names(whole, folder)
        missing = min(held.difference(names), default=None)
        if missing is not None:
            raise FovealError(
                f"{folder} lacks {missing}, an image that training held out for validation: pass the --data that the "
                "network was trained on."
            )
        taken = [index for index, name in enumerate(names) if (name in held) == validates]
        part = FileImages(whole.classes, [whole.names[i] for i in taken], [whole.targets[i] for i in taken])
        part.notices = list(whole.notices)
        if validates:
            part.held_out = self.held_out
            part.notices.append(
                f"{len(taken):,} of the {len(names):,} images of {folder} are held out for validation "
                f"(--val-fraction {self.held_out.fraction:g} --seed {self.held_out.seed})."
            )
        return part


def _folder(root: Path) -> Path:
    """Return the folder of the class folders."""
    train = split_folder(root, "train")
    return train if train.is_dir() else root


def _names(images: FileImages, folder: Path) -> list[str]:
    """Return the names of images relative to ``folder``, with slashes on every system."""
    start = len(str(folder)) + len(os.sep)  # Path.relative_to takes longer than the listing
    return [name[start:].replace(os.sep, "/") for name in images.names]
