"""Class folders without a validation split: ``root/<class>/*`` or ``root/train/<class>/*``, some held out."""

from __future__ import annotations

import os
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.classification.data.class_folders import (
    ClassFolders,
    check_class_folders,
    find_split_folder,
    has_class_folders,
    is_split_name,
    open_class_folders,
)
from foveal.tasks.classification.data.images import FileImages, Images
from foveal.tasks.held_out import HeldOut, draw
from foveal.tasks.listing import few, split_names, subfolders


def is_unsplit(root: Path) -> bool:
    """Return whether ``root`` has class folders, or a folder of them for training, and none for validation."""
    return root.is_dir() and find_split_folder(root, "val") is None and has_class_folders(root)


def no_validation(root: Path) -> FovealError:
    """Return the error for such a folder if no validation images should be drawn: the ways that lead on.

    Raises:
        FovealError: it has no class folders either.
    """
    folder = _folder(root)
    names = check_class_folders(folder)
    advice = f"put validation images into {root / 'val'}/<class>/"
    if folder == root:
        advice = f"put the images into {root / 'train'}/<class>/ and {root / 'val'}/<class>/"
    alike = [name for name in subfolders(root) if name.casefold() in ("dev", "eval")]
    renamed = "".join(f", rename {name}/ to val/" for name in alike if has_class_folders(root / name))
    held = " of class folders" if "val" in names and folder == root else ""
    return FovealError(
        f"{root} has no folder val/{held}: {advice}{renamed}, or pass --val-fraction 0.2 to draw them from the others."
    )


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
        val = find_split_folder(root, "val")
        if val is not None:
            check_class_folders(val)
            raise FovealError(f"{root} has validation images in {val.name}/: leave --val-fraction out.")
        folder, images = _folder(root), _whole(root, complete=True)
        return cls(root, draw(_names(images, folder), images.targets, fraction, seed), images)

    def place(self, split: str) -> str:
        """Return the location of the split, for error messages."""
        if split in split_names("val"):
            return f"{_folder(self.root)} (held out)"
        return str(_folder(self.root)) if split in split_names("train") else ClassFolders(self.root).place(split)

    def set_name(self, split: str) -> str:
        """Return the name of the split as results give it."""
        if split in split_names("val"):
            return self.held_out.set_name
        if split in split_names("train"):
            return f"all but {self.held_out.set_name}"
        return ClassFolders(self.root).set_name(split)

    def check(self, split: str) -> None:
        """Both splits exist."""

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """Open the images held out as "val", and all others as "train". Held-out images that are missing are noticed.

        Raises:
            FovealError: none of the images that were held out is there.
        """
        validates = split in split_names("val")
        if not validates and split not in split_names("train"):
            return ClassFolders(self.root).open(split, classes)
        folder = _folder(self.root)
        whole = self._images or _whole(self.root)
        held, names = set(self.held_out.names), _names(whole, folder)
        taken = [index for index, name in enumerate(names) if (name in held) == validates]
        part = FileImages(whole.classes, [whole.names[i] for i in taken], [whole.targets[i] for i in taken])
        part.notices = list(whole.notices)
        if validates:
            part.held_out = self.held_out
            missing = self.held_out.missing_notice(names, folder)
            part.notices += [missing] if missing else []
            part.notices.append(
                f"{len(taken):,} of the {len(names):,} images of {folder} are held out for validation "
                f"(--val-fraction {self.held_out.fraction:g} --seed {self.held_out.seed})."
            )
        return part


def _folder(root: Path) -> Path:
    """Return the folder of the class folders."""
    return find_split_folder(root, "train") or root


def _whole(root: Path, complete: bool = False) -> FileImages:
    """Open all images. Which folders are no classes is in the notices, and which are in spite of their names."""
    folder = _folder(root)
    names = check_class_folders(folder)
    if folder != root:
        beside = [f"{name}/" for name in subfolders(root) if name != folder.name]
        images = open_class_folders(folder, classes=names, complete=complete)
        if beside:
            images.notices.append(f"{folder} is read, and not what is beside it: {few(beside)}.")
        return images
    alike = [name for name in names if is_split_name(name)]
    splits = [name for name in alike if has_class_folders(root / name)]
    images = open_class_folders(root, classes=[name for name in names if name not in splits], complete=complete)
    images.notices += [
        f"{root / name} is a split and no class, since it has class folders itself; it is left out."
        if name in splits
        else f"{root / name} is read as the class {name!r}, since it has images but no class folders."
        for name in alike
    ]
    return images


def _names(images: FileImages, folder: Path) -> list[str]:
    """Return the names of images relative to ``folder``, with slashes on every system."""
    start = len(str(folder)) + len(os.sep)  # Path.relative_to takes longer than the listing
    return [name[start:].replace(os.sep, "/") for name in images.names]
