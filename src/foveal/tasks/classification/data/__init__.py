"""Images with classes, from wherever they lie: everything that can be wrong with them is said before the first step.

``open_split`` and ``open_train_and_val`` are the doors. What the user types as ``--data`` is

- a folder: of class folders (``folders``), of ImageNet as its archives give it (``imagenet``), of tar shards
  (``shards``), or written by Hugging Face's ``save_to_disk`` (``hub``);
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
    """A place with images in splits."""

    def place(self, split: str) -> str:
        """Where the split lies, for a sentence."""
        ...

    def check(self, split: str) -> None:
        """Raise FovealError where there is no such split, before anything is read."""
        ...

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """The split; ``classes`` are those of the training images, for a source that only knows numbers."""
        ...


def open_split(where: str | Path, split: str, transform: Callable | None = None) -> Images:
    """The images of one split ("train", "val") of ``where``; item i is ``(transform(image), class index)``.

    Raises:
        FovealError: the split is missing, or what it holds cannot be used; the sentence says what to do.
    """
    images = source_of(where).open(split)
    images.transform = transform
    return images


def open_train_and_val(where: str | Path) -> tuple[Images, Images]:
    """Both splits, which must know the same classes; those of val are numbered as those of train.

    Raises:
        FovealError: as open_split, or the classes differ, or there is only one.
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
            f"{source.place('train')} has one class alone, {train.classes[0]!r}, and so nothing to tell apart: add "
            "the folder of another class."
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
    """The source that ``where`` names, recognised by its spelling or by what lies there; nothing is read yet."""
    text = re.sub(r"\b(https?|s3|gs):/(?!/)", r"\1://", str(where))  # a Path has made one slash of two
    if text.startswith("hf:"):
        return HubDataset(text.removeprefix("hf:"))
    if names_shards(text):
        return Shards(text)
    root = Path(where)
    if is_saved_dataset(root):
        return HubDataset(root)
    return ImageNet(root) if is_imagenet(root) else ClassFolders(root)


def match_classes(images: Images, expected: list[str], where: str, expected_where: str) -> None:
    """Give the images the class numbers of ``expected``, by name; refuse other classes, naming one that differs."""
    check_classes(images.classes, expected, where, expected_where)
    images.sort_classes(expected)


def check_classes(found: list[str], expected: list[str], where: str, expected_where: str) -> None:
    """Refuse two lists of class names that differ, naming one class that does."""
    extra, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if extra:
        raise FovealError(
            f"{where} has a class {extra[0]!r} that {expected_where} does not know: both must have the same classes."
        )
    if missing:
        raise FovealError(
            f"{where} lacks the class {missing[0]!r} of {expected_where}: both must have the same classes."
        )


__all__ = ["Images", "decode_rgb", "load_rgb", "match_classes", "open_split", "open_train_and_val"]
