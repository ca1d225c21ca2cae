"""Image classification datasets, opened and checked before training starts.

``open_split`` and ``open_train_and_val`` open what ``--data`` names:

- a folder: of class folders (``images``), of ImageNet's archives (``imagenet``), of tar shards (``shards``), or written
  by ``save_to_disk`` of Hugging Face datasets (``hub``);
- the pattern or address of tar shards: ``DIR/train-{000..146}.tar``, ``https://...``, ``pipe:...``;
- a Hugging Face dataset: ``hf:NAME`` or ``hf:NAME:CONFIG``.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from foveal.errors import FovealError
from foveal.tasks.classification.data.hub import HubDataset, is_saved_dataset
from foveal.tasks.classification.data.imagenet import ImageNet, is_imagenet
from foveal.tasks.classification.data.images import ClassFolders, Images
from foveal.tasks.classification.data.shards import Shards, names_shards
from foveal.tasks.image_files import decode_rgb, load_rgb


class Source(Protocol):
    """A source of images in splits."""

    def place(self, split: str) -> str:
        """Return the location of the split, for error messages."""
        ...

    def check(self, split: str) -> None:
        """Raise FovealError if there is no such split, before anything is read."""
        ...

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """Open the split; ``classes`` are those of the training images, for sources that only store class numbers."""
        ...


def open_split(where: str | Path, split: str, transform: Callable | None = None) -> Images:
    """Open the images of one split ("train", "val") of ``where``; item i is ``(transform(image), class index)``.

    Raises:
        FovealError: the split is missing or its content cannot be used.
    """
    images = source_of(where).open(split)
    images.transform = transform
    return images


def open_train_and_val(where: str | Path) -> tuple[Images, Images]:
    """Open both splits, which must have the same classes, numbered as in train.

    Raises:
        FovealError: as ``open_split``, or the classes differ, or there is only one.
    """
    source = source_of(where)
    for split in ("train", "val"):
        source.check(split)
    train = source.open("train")
    _check_no_class_is_empty(train, source.place("train"))
    val = source.open("val", train.classes)
    match_classes(val, train.classes, source.place("val"), source.place("train"))
    if len(train.classes) == 1:
        raise FovealError(
            f"{source.place('train')} has only one class, {train.classes[0]!r}: add the folder of another class."
        )
    return train, val


def _check_no_class_is_empty(train: Images, place: str) -> None:
    present = set(train.targets)
    empty = next((name for label, name in enumerate(train.classes) if label not in present), None)
    if train.targets and empty is not None:
        raise FovealError(
            f"{place} has no image of the class {empty!r}: add images of it, or remove it from the classes."
        )


def source_of(where: str | Path) -> Source:
    """Return the source that ``where`` names, recognised by its spelling or by what is in the folder."""
    text = re.sub(r"\b(https?|s3|gs):/(?!/)", r"\1://", str(where))  # Path collapses two slashes into one
    if text.startswith("hf:"):
        return HubDataset(text.removeprefix("hf:"))
    if names_shards(text):
        return Shards(text)
    root = Path(where)
    if is_saved_dataset(root):
        return HubDataset(root)
    return ImageNet(root) if is_imagenet(root) else ClassFolders(root)


def match_classes(images: Images, expected: list[str], where: str, expected_where: str) -> None:
    """Renumber the classes of ``images`` as in ``expected``; raise FovealError if the names differ."""
    check_classes(images.classes, expected, where, expected_where)
    images.sort_classes(expected)


def check_classes(found: list[str], expected: list[str], where: str, expected_where: str) -> None:
    """Raise FovealError if two sets of class names differ; the message names one class that does."""
    extra, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if extra:
        raise FovealError(
            f"{where} has a class {extra[0]!r} that {expected_where} does not have: both must have the same classes."
        )
    if missing:
        raise FovealError(
            f"{where} lacks the class {missing[0]!r} of {expected_where}: both must have the same classes."
        )


__all__ = ["Images", "decode_rgb", "load_rgb", "match_classes", "open_split", "open_train_and_val"]
